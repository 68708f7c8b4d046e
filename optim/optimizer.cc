#include "optim/optimizer.h"

#include "engine/core/error.h"
#include "engine/ops/optimizers.h"
#include "engine/tape/executor.h"

namespace parabola {

Optimizer::Optimizer(std::vector<Tensor> parameters, double lr, double clip, int slots)
    : parameters_(std::move(parameters)), clip_(clip), lr_(lr) {
  if (parameters_.empty())
    fail<UsageError>("optimizer", "got no parameters, expected at least one that requires a gradient");
  for (int slot = 0; slot < slots; ++slot)
    for (const Tensor& parameter : parameters_)
      state_.push_back(Tensor::full(parameter.shape(), 0, parameter.dtype(), Category::optimizer, parameter.device()));
}

void Optimizer::step() {
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : parameters_) {
    const Tensor gradient = parameter.gradient();
    if (!gradient)
      fail<UsageError>("optimizer", "a parameter of shape ", parameter.shape(),
                       " has no gradient, expected one after backward");
    gradients.push_back(gradient);
  }
  StepRecord& record = Executor::instance().step;
  record.learning_rate = lr_;
  record.update = ++updates_;
  if (clip_ > 0) norm_ = ::parabola::gradient_norm(gradients);
  update(parameters_, gradients);
  for (const Tensor& parameter : parameters_) parameter.zero_gradient();
}

}  // namespace parabola
