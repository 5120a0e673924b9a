// The kernels without ONNX Runtime, on random sizes, for a sanitizer: reads and writes out of bounds, undefined
// behaviour, races. Operands and results have exactly their size; so has scratch memory, which in the library lies in
// blocks that hide what goes beyond an array. Numbers are compared by tests, not here.
//
//   cmake -S fourbit_onnx/runtime/native -B build/address -DFOURBIT_SANITIZE=address,undefined
//   cmake --build build/address --target sanitize && build/address/sanitize 1 100     # seed, rounds
//   cmake -S fourbit_onnx/runtime/native -B build/thread -DFOURBIT_SANITIZE=thread    # and the same
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/isa.h"
#include "kernels/batch_norm/batch_norm.h"
#include "kernels/codes/codes.h"
#include "kernels/conv/conv.h"
#include "kernels/elements/parallel.h"
#include "kernels/elements/random.h"
#include "kernels/gather_grad/gather_grad.h"
#include "kernels/gelu/gelu.h"
#include "kernels/gemm/matmul.h"
#include "kernels/gemm/two_phase.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/softmax_grad/softmax_grad.h"
#include "kernels/sum_rows/sum_rows.h"
#include "kernels/updates/updates.h"

namespace fourbit {

// In place of base/scratch.cc.
namespace {
thread_local std::vector<void*> taken;
}

ScratchStack& ScratchStack::of_this_thread() {
  static ScratchStack stack;
  return stack;
}

ScratchStack::Mark ScratchStack::mark() const { return {taken.size(), 0}; }

void* ScratchStack::take(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
  std::memset(memory, 0xA5, bytes);
  taken.push_back(memory);
  return memory;
}

void ScratchStack::reset(Mark mark) {
  for (; taken.size() > mark.block; taken.pop_back()) std::free(taken.back());
}

namespace {

std::mt19937_64 random_bits;

int64_t pick(int64_t low, int64_t high) { return low + static_cast<int64_t>(random_bits() % (high - low + 1)); }

bool one_in(int64_t n) { return pick(1, n) == 1; }

class Threads final : public Host {
 public:
  explicit Threads(int64_t count) : count_(count) {}
  void parallel(int64_t count, const std::function<void(int64_t)>& task) const override {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i; (i = next++) < count;) task(i);
    };
    std::vector<std::thread> others;
    for (int64_t t = 1; t < count_; ++t) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
  }
  int64_t threads() const override { return count_; }

 private:
  int64_t count_;
};

template <typename T>
class Array {  // of exactly its size
 public:
  explicit Array(int64_t count) : data_(static_cast<T*>(std::malloc(count * sizeof(T))), std::free), count_(count) {}
  T* get() const { return data_.get(); }
  operator const T*() const { return get(); }
  operator T*() { return get(); }
  T* begin() const { return get(); }
  T* end() const { return get() + count_; }

 private:
  std::unique_ptr<T, void (*)(void*)> data_;
  int64_t count_;
};

Array<uint8_t> codes(int64_t count) {
  Array<uint8_t> made((count + 1) / 2);
  for (uint8_t& byte : made) byte = static_cast<uint8_t>(random_bits());
  return made;
}

Array<float> floats(int64_t count, int64_t low = -1000) {
  Array<float> made(count);
  for (float& x : made) x = static_cast<float>(pick(low, 1000)) / 400;
  return made;
}

const Values kInt4 = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
const Values kUint4 = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
const Values kLog4 = {0, 1, 4, 16, 64, 256, 1024, 4096, 0, -1, -4, -16, -64, -256, -1024, -4096};
const Values kLog2 = {0, 1, 2, 4, 8, 16, 32, 64, 0, -1, -2, -4, -8, -16, -32, -64};

const Values& any_values() {
  static const Values* const all[] = {&kInt4, &kUint4, &kLog4, &kLog2};
  return *all[pick(0, 3)];
}

int64_t any_zero_point() { return one_in(3) ? pick(-8, 8) : 0; }

void products(const Host& host) {
  const MatMulShape s{pick(1, 3), pick(1, 90), pick(0, 90), pick(1, 90), one_in(2), one_in(2)};
  const auto a = codes(s.batch * s.m * s.k), b = codes(s.batch * s.k * s.n);
  const auto other_a = codes(s.batch * s.m * s.k), other_b = codes(s.batch * s.k * s.n);
  Array<float> y(s.batch * s.m * s.n), bias = floats(s.n);
  Operand left{a, any_values(), any_zero_point()}, right{b, any_values(), any_zero_point()};
  matmul(s, left, right, 0.5f, one_in(2) ? bias.get() : nullptr, y, host);
  matmul(s, two_phases(a, other_a), right, 0.5f, nullptr, y, host);
  matmul(s, left, two_phases(b, other_b), 0.5f, nullptr, y, host);
}

void convolutions(const Host& host) {
  const bool winograd = one_in(3), depthwise = !winograd && one_in(2);
  ConvGeometry g;
  g.batch = pick(1, one_in(4) ? 30 : 4);
  g.groups = depthwise ? pick(1, 200) : winograd || one_in(2) ? 1 : pick(2, 4);
  g.channels = winograd ? pick(32, 70) : pick(1, depthwise ? 2 : 20);
  g.filters = winograd ? pick(32, 70) : pick(1, depthwise ? 2 : 40);
  const int64_t rank = winograd ? 2 : pick(1, 3), most = rank == 3 ? 6 : 18;
  Dims ends;  // of the padding
  for (int64_t d = 0; d < rank; ++d) {
    g.kernel.push_back(winograd ? 3 : pick(1, 4));
    g.strides.push_back(winograd ? 1 : pick(1, 3));
    g.dilations.push_back(winograd ? 1 : pick(1, 2));
    g.pads.push_back(pick(0, 2)), ends.push_back(pick(0, 2));
    const int64_t padding = g.pads.back() + ends.back(), reach = g.dilations[d] * (g.kernel[d] - 1) + 1;
    g.input.push_back(std::max(pick(1, most), reach - padding));
    g.input.back() = std::max<int64_t>(g.input.back(), 1);
    g.output.push_back(conv_output_size(g.input[d], g.kernel[d], g.strides[d], g.dilations[d], padding));
  }
  g.pads.insert(g.pads.end(), ends.begin(), ends.end());
  const int64_t xs = g.batch * g.groups * g.channels * product(g.input),
                ws = g.groups * g.filters * g.channels * product(g.kernel),
                ys = g.batch * g.groups * g.filters * product(g.output);
  const auto x = codes(xs), w = codes(ws), dy = codes(ys), odd = codes(ys);
  const bool both = one_in(2);
  const Operand weights{w, kInt4, any_zero_point()}, one_phase{dy, one_in(4) ? any_values() : kLog4, 0};
  const Operand two_phase = two_phases(dy, odd), &gradient = both ? two_phase : one_phase;
  Array<float> y(ys), dx(xs), dw(ws);
  conv(g, {x, kUint4, any_zero_point()}, weights, 0.5f, y, host);
  conv_input_grad(g, gradient, weights, 0.5f, dx, host);
  conv_weight_grad(g, {x, one_in(2) ? kUint4 : kInt4, any_zero_point()}, gradient, 0.5f, dw, host);
}

void elements(const Host& host) {
  const int64_t n = one_in(3) ? pick(16000, 70000) : pick(0, 700);
  const auto x = floats(n), b = floats(n), u = floats(n, 0);
  Array<uint8_t> c((n + 1) / 2), mask((n + 7) / 8), up((n + 7) / 8);
  Array<float> y(n), y2(n), y3(n);
  int64_t bad, sum, squares;
  float low, high;
  largest_magnitude(x, n, &bad, host);
  value_range(x, n, &low, &high, &bad, host);
  magnitude_moments(x, n, 2.5f, &sum, &squares, host);
  quantize_integer(x, n, 0.3f, 0, -7, 7, c, host);
  quantize_log(x, n, one_in(2) ? 0.001f : 1e-39f, 0.6f, one_in(2) ? 1 : 2, c, host);
  const float levels[8] = {0, 1, 2, 4, 8, 16, 32, 64};
  quantize_stochastic(x, u, n, 0.01f, levels, one_in(2), c, host);
  quantize_clipped(x, n, 0.1f, 0, 15, 0, 1.5f, nullptr, mask, nullptr, host);
  quantize_clipped(x, n, 0.1f, 0, 15, 0, 1.5f, c, mask, up, host);
  const bool trained = one_in(2);
  clip_gradient(x, trained ? c.get() : nullptr, mask, trained && one_in(2) ? up.get() : nullptr, n, 15, 16,
                one_in(2) ? y.get() : nullptr, host);
  rectify(x, one_in(2) ? b.get() : nullptr, n, y, one_in(2) ? mask.get() : nullptr, host);
  clip(x, n, -0.5f, 0.5f, y, one_in(2) ? mask.get() : nullptr, host);
  mask_sum(x, one_in(2) ? b.get() : nullptr, mask, n, y, host);
  random_uniform(y, n, random_bits(), 3, host);
  sgd_update(x, b, u, n, {1, 0.1f, 0.9f, 0.01f, one_in(2)}, y, y2, host);
  adamw_update(x, b, u, u, n, {1, 0.1f, 0.5f, 0.5f, 0.9f, 0.99f, 1e-8f, 0.01f}, y, y2, one_in(2) ? y3.get() : nullptr,
               host);
  best_gelu().forward(x, n, y);
  best_gelu().backward(b, x, n, y);
}

void normalisations(const Host& host) {
  const int64_t rows = pick(1, 64), count = pick(1, 7), n = pick(1, 90), all = rows * count * n;
  const auto x = floats(all), dy = floats(all), statistics = floats(std::max(rows, count), 1), scale = floats(n);
  const Channels channels{rows, count, n, count * n};
  Array<float> packed(all), xhat(all), y(all), sums(2 * n), scratch(layer_norm_scratch(n));
  Array<uint32_t> most(kLanes * count), most_product(kLanes * count);
  int64_t sum = 0, other = 0;
  const BatchNormKernels& k = best_batch_norm();
  k.pack(x, channels, packed, most);
  k.moments(packed, rows * n, 1000, &sum, &other);
  k.normalise(packed, channels, statistics, statistics, statistics, y);
  k.pack_products(dy, x, channels, statistics, statistics, packed, xhat, most, most_product);
  k.sum_products(packed, xhat, rows * n, 1000, 1000, &sum, &other);
  k.input_grad(packed, xhat, channels, statistics, statistics, statistics, y);
  best_layer_norm().backward(dy, x, scale, statistics, statistics, rows, n, scratch, y, sums);
  best_layer_norm().pairs(packed, rows * count, n);
  best_sum_rows().sum(x, rows, n, n * count, Array<float>(kSumRowsScratch), sums);
  best_softmax_grad().backward(dy, x, std::min(rows, kSoftmaxRows), n, Array<float>(n), y);

  const int64_t height = pick(0, 40), width = pick(0, 300), before = pick(0, 5);
  const Array<uint8_t> matrix = codes(height * width);
  Array<uint8_t> turned = codes(height * width), joined = codes(before + height * width);
  transpose_codes(matrix, height, width, turned, host);
  append_codes(matrix, height * width, joined, before);

  const int64_t outer = pick(1, 3), indices = pick(0, 300), table = pick(1, 50);
  Array<int64_t> places(indices);
  for (int64_t& place : places) place = pick(0, table - 1);
  Array<float> gradient(outer * table * n);
  gather_grad(floats(outer * indices * n), places, outer, indices, table, n, gradient, host);
}

}  // namespace
}  // namespace fourbit

int main(int count, char** arguments) {
  using namespace fourbit;
  random_bits.seed(count > 1 ? std::atoi(arguments[1]) : 1);
  const int rounds = count > 2 ? std::atoi(arguments[2]) : 100;
  for (const char* isa : {"scalar", "avx2", "avx512vnni"}) {
    if (const std::string why = select_isa(isa); !why.empty()) {
      std::printf("%s: left out: %s\n", isa, why.c_str());
      continue;
    }
    for (int i = 0; i < rounds; ++i) {
      const Threads host(pick(1, 4));
      products(host);
      convolutions(host);
      elements(host);
      normalisations(host);
    }
    std::printf("%s: %d rounds\n", isa, rounds);
  }
  return 0;
}
