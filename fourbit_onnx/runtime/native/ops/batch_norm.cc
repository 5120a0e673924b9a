#include "kernels/batch_norm/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/elements/elements.h"
#include "ops/layers.h"

namespace fourbit {
namespace {

constexpr int64_t kRun = 4096, kLeastTasks = 8;
constexpr float kSmallest = 0x1p-90f;  // of max |x| in q: 2^30 / 2^-90 is far from overflow

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

float unit(float steps, uint32_t largest) { return steps / std::max(float_of(largest), kSmallest); }

uint32_t largest_of(const uint32_t* lanes) { return *std::max_element(lanes, lanes + kLanes); }

// Of all channels; refuses what has none.
Channels channels_of(const Tensor& x) {
  if (x.rank() < 2 || x.count() == 0) {
    throw Refused("x must have a batch and a channel dimension, and elements; its shape is " + text(x.shape()));
  }
  const int64_t rows = x.shape()[0], count = x.shape()[1], n = x.count() / rows / count;
  if (rows * n >= 1 << 24) throw Refused("a channel must have fewer than 2^24 elements; x is " + text(x.shape()));
  return {rows, count, n, count * n};
}

// Calls task(first, some) for all channels, some at a time: runs of memory of `kRun` elements if there are as many
// channels, but few enough for every thread to have its share.
void for_channels(const Context& context, const Channels& all,
                  const std::function<void(int64_t, const Channels&)>& task) {
  const int64_t size = std::max<int64_t>(1, std::min(kRun / all.n, divide_up(all.count, kLeastTasks)));
  context.parallel(divide_up(all.count, size), [&](int64_t i) {
    task(i * size, {all.rows, std::min(size, all.count - i * size), all.n, all.stride});
  });
}

void a_channel_each(const char* name, const Tensor& tensor, int64_t channels) {
  if (tensor.count() != channels) {
    throw Refused(std::string(name) + " must have one number for each of the " + std::to_string(channels) +
                  " channels; its shape is " + text(tensor.shape()));
  }
}

void refuse_bad_channels(const char* name, const Tensor& x, const std::vector<uint32_t>& largest) {
  if (std::all_of(largest.begin(), largest.end(), [](uint32_t bits) { return bits <= kLargestFinite; })) return;
  const float* data = x.data<float>();
  refuse_bad(name, x, std::find_if(data, data + x.count(), [](float v) { return !std::isfinite(v); }) - data);
}

}  // namespace

void BatchNorm::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const Channels all = channels_of(x);
  const char* names[] = {"x", "gamma", "beta", "running_mean", "running_var"};
  const float* parameters[5] = {x.data<float>()};
  for (size_t i = 1; i < 5; ++i) {
    a_channel_each(names[i], context.input(i), all.count);
    parameters[i] = context.input(i).data<float>();
  }
  float* outputs[5];
  outputs[0] = context.output(0, x.shape()).data<float>();
  for (size_t i = 1; i < 5; ++i) outputs[i] = context.output(i, {all.count}).data<float>();
  const auto give = [&](size_t output, int64_t channel, float value) {
    if (outputs[output] != nullptr) outputs[output][channel] = value;
  };

  const BatchNormKernels& k = best_batch_norm();
  const double count = static_cast<double>(all.elements());
  const float rest = 1.0f - momentum_;
  std::vector<uint32_t> largest(static_cast<size_t>(all.count));
  for_channels(context, all, [&](int64_t first, const Channels& some) {
    const Buffer<float> packed(some.count * some.elements()), means(2 * some.count);
    const Buffer<uint32_t> most(kLanes * some.count);
    float* scales = means.data() + some.count;
    k.pack(x.data<float>() + first * all.n, some, packed.data(), most.data());
    for (int64_t i = 0; i < some.count; ++i) {
      const int64_t c = first + i;
      largest[c] = largest_of(most.data() + kLanes * i);
      if (largest[c] > kLargestFinite) return;
      const float q = unit(0x1p19f, largest[c]);
      int64_t sum = 0, squares = 0;
      k.moments(packed.data() + i * some.elements(), some.elements(), q, &sum, &squares);
      const double wide = q, mean_units = static_cast<double>(sum) / count;
      const double var_units = std::max(static_cast<double>(squares) / count - mean_units * mean_units, 0.0);
      const double var = var_units / (wide * wide);
      const float mean = static_cast<float>(mean_units / wide);
      const float inv_std = static_cast<float>(1.0 / std::sqrt(var + static_cast<double>(epsilon_)));
      means.data()[i] = mean;
      scales[i] = parameters[1][c] * inv_std;
      give(1, c, parameters[3][c] * momentum_ + mean * rest);
      give(2, c, parameters[4][c] * momentum_ + static_cast<float>(var) * rest);
      give(3, c, mean);
      give(4, c, inv_std);
    }
    if (outputs[0] == nullptr) return;
    k.normalise(packed.data(), some, means.data(), scales, parameters[2] + first, outputs[0] + first * all.n);
  });
  refuse_bad_channels("x", x, largest);
}

void BatchNormGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), x = context.input(1);
  if (x.shape() != dy.shape()) {
    throw Refused("dy must have the shape of x, " + text(x.shape()) + "; it has " + text(dy.shape()));
  }
  const Channels all = channels_of(x);
  const char* names[] = {"gamma", "mean", "inv_std"};
  const float* parameters[3];
  for (size_t i = 0; i < 3; ++i) {
    a_channel_each(names[i], context.input(2 + i), all.count);
    parameters[i] = context.input(2 + i).data<float>();
  }
  float* dx = context.output(0, x.shape()).data<float>();
  float* dgamma = context.output(1, {all.count}).data<float>();
  float* dbeta = context.output(2, {all.count}).data<float>();

  const BatchNormKernels& k = best_batch_norm();
  const double count = static_cast<double>(all.elements());
  std::vector<uint32_t> largest(static_cast<size_t>(all.count)), largest_product(static_cast<size_t>(all.count));
  for_channels(context, all, [&](int64_t first, const Channels& some) {
    const Buffer<float> packed_dy(some.count * some.elements()), statistics(3 * some.count);
    const Buffer<float> packed_xhat(some.count * some.elements());
    const Buffer<uint32_t> most(2 * kLanes * some.count);
    uint32_t* most_product = most.data() + kLanes * some.count;
    float *mean_dy = statistics.data(), *mean_product = mean_dy + some.count, *scale = mean_product + some.count;
    k.pack_products(dy.data<float>() + first * all.n, x.data<float>() + first * all.n, some, parameters[1] + first,
                    parameters[2] + first, packed_dy.data(), packed_xhat.data(), most.data(), most_product);
    for (int64_t i = 0; i < some.count; ++i) {
      const int64_t c = first + i, at = i * some.elements();
      largest[c] = largest_of(most.data() + kLanes * i);
      largest_product[c] = largest_of(most_product + kLanes * i);
      if (largest[c] > kLargestFinite || largest_product[c] > kLargestFinite) return;
      const float q_dy = unit(0x1p30f, largest[c]), q_product = unit(0x1p30f, largest_product[c]);
      int64_t sum = 0, sum_product = 0;
      k.sum_products(packed_dy.data() + at, packed_xhat.data() + at, some.elements(), q_dy, q_product, &sum,
                     &sum_product);
      const double total = static_cast<double>(sum) / static_cast<double>(q_dy);
      const double total_product = static_cast<double>(sum_product) / static_cast<double>(q_product);
      if (dgamma != nullptr) dgamma[c] = static_cast<float>(total_product);
      if (dbeta != nullptr) dbeta[c] = static_cast<float>(total);
      mean_dy[i] = static_cast<float>(total / count);
      mean_product[i] = static_cast<float>(total_product / count);
      scale[i] = parameters[0][c] * parameters[2][c];
    }
    if (dx == nullptr) return;
    k.input_grad(packed_dy.data(), packed_xhat.data(), some, mean_dy, mean_product, scale, dx + first * all.n);
  });
  refuse_bad_channels("dy", dy, largest);
  if (!std::all_of(largest_product.begin(), largest_product.end(), [](uint32_t b) { return b <= kLargestFinite; })) {
    throw Refused("dy times the normalised x is not finite: x is not, or dy is too large");
  }
}

}  // namespace fourbit
