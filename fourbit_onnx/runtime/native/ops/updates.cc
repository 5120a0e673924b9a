#include "ops/updates.h"

namespace fourbit {
namespace {

void refuse_other_shape(const char* name, const Tensor& x, const Tensor& p) {
  if (x.shape() != p.shape()) {
    throw Refused(std::string(name) + " must have the shape of p, " + text(p.shape()) + "; its own is " +
                  text(x.shape()));
  }
}

}  // namespace

SgdUpdate::SgdUpdate(const Attributes& attributes)
    : step_{1.0f, 0.0f, attributes.number("momentum", 0.9f), attributes.number("weight_decay", 0.0f),
            attributes.integer("nesterov", 0) != 0} {}

void SgdUpdate::compute(const Context& context) const {
  const Tensor p = context.input(0), gradient = context.input(1), m = context.input(4);
  refuse_other_shape("gradient", gradient, p);
  refuse_other_shape("m", m, p);
  SgdStep step = step_;
  step.factor = context.scalar(2, "factor");
  step.rate = context.scalar(3, "rate");
  const Tensor new_p = context.output(0, p.shape()), new_m = context.output(1, p.shape());
  sgd_update(p.data<float>(), gradient.data<float>(), m.data<float>(), p.count(), step, new_p.data<float>(),
             new_m.data<float>(), context);
}

AdamWUpdate::AdamWUpdate(const Attributes& attributes) : step_{} {
  step_.beta1 = attributes.number("beta1", 0.9f);
  step_.beta2 = attributes.number("beta2", 0.999f);
  step_.epsilon = attributes.number("epsilon", 1e-8f);
  step_.decay = attributes.number("weight_decay", 0.0f);
}

void AdamWUpdate::compute(const Context& context) const {
  const Tensor p = context.input(0), gradient = context.input(1), mean = context.input(6), square = context.input(7);
  refuse_other_shape("gradient", gradient, p);
  refuse_other_shape("mean", mean, p);
  refuse_other_shape("square", square, p);
  AdamWStep step = step_;
  step.factor = context.scalar(2, "factor");
  step.rate = context.scalar(3, "rate");
  step.correction1 = context.scalar(4, "correction1");
  step.correction2 = context.scalar(5, "correction2");
  const Tensor new_p = context.output(0, p.shape()), new_mean = context.output(1, p.shape()),
               new_square = context.output(2, p.shape());
  adamw_update(p.data<float>(), gradient.data<float>(), mean.data<float>(), square.data<float>(), p.count(), step,
               new_p.data<float>(), new_mean.data<float>(), new_square.data<float>(), context);
}

}  // namespace fourbit
