#include "optim/optimizer.h"

#include "engine/core/error.h"
#include "engine/ops/optimizers.h"
#include "engine/tape/executor.h"

namespace parabola {

Optimizer::Optimizer(const std::vector<ParameterGroup>& groups, double lr, double weight_decay, double clip, int slots)
    : clip_(clip), lr_(lr) {
  for (const ParameterGroup& group : groups) {
    groups_.push_back(
        {parameters_.size(), group.parameters.size(), group.lr_factor, group.weight_decay.value_or(weight_decay)});
    parameters_.insert(parameters_.end(), group.parameters.begin(), group.parameters.end());
  }
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
  record.update = ++updates_;
  if (clip_ > 0) norm_ = ::parabola::gradient_norm(gradients);
  const std::span<const Tensor> parameters(parameters_), states(state_), all(gradients);
  for (const Group& group : groups_) {
    record.learning_rate = lr_ * group.lr_factor;
    Update part{
        parameters.subspan(group.begin, group.count), all.subspan(group.begin, group.count), {}, group.weight_decay};
    for (size_t slot = 0; slot * parameters.size() < states.size(); ++slot)
      part.states[slot] = states.subspan(slot * parameters.size() + group.begin, group.count);
    update(part);
  }
  for (const Tensor& parameter : parameters_) parameter.zero_gradient();
}

}  // namespace parabola
