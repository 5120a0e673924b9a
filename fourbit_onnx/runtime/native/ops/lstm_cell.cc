#include "kernels/lstm_cell/lstm_cell.h"

#include <algorithm>

#include "kernels/conv/grid.h"
#include "ops/layers.h"

namespace fourbit {
namespace {

constexpr int64_t kCells = 4096;  // of a task, at least

// A tensor with a row for each sample, or one number that stands for all its elements.
class Rows {
 public:
  Rows(const char* name, const Tensor& tensor, const Shape& shape) : data_(tensor.data<float>()) {
    size_ = shape.back();
    if (tensor.shape() == shape) return;
    if (tensor.count() != 1) {
      throw Refused(std::string(name) + " must have the shape " + text(shape) + ", or be one number; it has " +
                    text(tensor.shape()));
    }
    number_ = true;
  }
  // How many numbers a row of a single number takes from scratch memory.
  int64_t scratch() const { return number_ ? size_ : 0; }
  // Lays the number out, or gives row `row` where there are some.
  const float* row(int64_t row, float*& scratch) const {
    if (!number_) return data_ + row * size_;
    float* const from = scratch;
    std::fill_n(from, size_, *data_);
    scratch += size_;
    return from;
  }

 private:
  const float* data_;
  int64_t size_;
  bool number_ = false;
};

// A row of an output; of scratch memory if nobody wants it.
float* place(float* output, int64_t row, int64_t size, float*& scratch) {
  if (output != nullptr) return output + row * size;
  scratch += size;
  return scratch - size;
}

// The shape of h, from that of what has four numbers for each.
Shape quarter(const char* name, Shape shape) {
  if (shape.empty() || shape.back() == 0 || shape.back() % 4 != 0) {
    throw Refused(std::string(name) + " must have four numbers for each cell on its last axis; its shape is " +
                  text(shape));
  }
  shape.back() /= 4;
  return shape;
}

// Calls task(row) for the samples, some at a time.
void for_rows(const Context& context, int64_t rows, int64_t size, const std::function<void(int64_t)>& task) {
  parallel_blocks(context, rows, std::max<int64_t>(1, kCells / size),
                  [&](int64_t first, int64_t count) {
                    for (int64_t row = first; row < first + count; ++row) task(row);
                  });
}

}  // namespace

LstmCell::LstmCell(const Attributes& attributes)
    : step_(attributes.integer("step", 0)), steps_(attributes.integer("steps", 1)) {
  if (step_ < 0 || step_ >= steps_) {
    throw Refused("step must be one of the steps; it is " + std::to_string(step_) + " of " + std::to_string(steps_));
  }
}

void LstmCell::compute(const Context& context) const {
  const Tensor all = context.input(0);
  Shape wide = all.shape();
  if (wide.empty() || wide[0] % steps_ != 0) {
    throw Refused("p must have as many rows for each of " + std::to_string(steps_) + " steps; its shape is " + text(wide));
  }
  wide[0] /= steps_;
  const Shape shape = quarter("p", wide);
  const float* const p = all.data<float>() + step_ * product(wide);
  const Rows y("y", context.input(1), wide), c("c", context.input(2), shape);
  const int64_t size = shape.back(), rows = product(wide) / (4 * size);
  float* h = context.output(0, shape).data<float>();
  float* new_c = context.output(1, shape).data<float>();
  float* gates = context.output(2, wide).data<float>();
  const LstmCellKernels& k = best_lstm_cell();
  for_rows(context, rows, size, [&](int64_t row) {
    const Buffer<float> buffer(y.scratch() + c.scratch() + 6 * size);
    float* scratch = buffer.data();
    const float *sums = y.row(row, scratch), *state = c.row(row, scratch);
    float *h_row = place(h, row, size, scratch), *c_row = place(new_c, row, size, scratch),
          *gates_row = place(gates, row, 4 * size, scratch);
    k.forward(p + row * 4 * size, sums, state, size, h_row, c_row, gates_row);
  });
}

void LstmCellGrad::compute(const Context& context) const {
  const Tensor gates = context.input(3);
  const Shape shape = quarter("gates", gates.shape());
  const Rows dh("dh", context.input(0), shape), more_dh("more_dh", context.input(1), shape),
      dc("dc", context.input(2), shape), c("c", context.input(4), shape), new_c("new_c", context.input(5), shape);
  const int64_t size = shape.back(), rows = gates.count() / (4 * size);
  float* dsums = context.output(0, gates.shape()).data<float>();
  float* previous_dc = context.output(1, shape).data<float>();
  const LstmCellKernels& k = best_lstm_cell();
  for_rows(context, rows, size, [&](int64_t row) {
    const Buffer<float> buffer(dh.scratch() + more_dh.scratch() + dc.scratch() + c.scratch() + new_c.scratch() +
                               5 * size);
    float* scratch = buffer.data();
    const float *d = dh.row(row, scratch), *more = more_dh.row(row, scratch), *dn = dc.row(row, scratch),
                *before = c.row(row, scratch), *state = new_c.row(row, scratch);
    float *sums_row = place(dsums, row, 4 * size, scratch), *c_row = place(previous_dc, row, size, scratch);
    k.backward(d, more, dn, gates.data<float>() + row * 4 * size, before, state, size, sums_row, c_row);
  });
}

}  // namespace fourbit
