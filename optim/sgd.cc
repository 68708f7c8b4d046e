#include "optim/sgd.h"

#include "engine/core/error.h"
#include "engine/ops/optimizers.h"

namespace parabola {

Sgd::Sgd(const std::vector<ParameterGroup>& groups, const Options& options)
    : Optimizer(groups, options.lr, options.weight_decay, options.clip, options.momentum != 0 ? 1 : 0),
      options_(options) {
  if (options.nesterov && options.momentum == 0)
    fail<UsageError>("optimizer", "got nesterov with a momentum of 0, expected a momentum above 0");
}

void Sgd::update(const Update& group) {
  sgd(group.parameters, group.gradients, group.states[0],
      {options_.momentum, group.weight_decay, clip_, options_.nesterov}, norm_);
}

}  // namespace parabola
