#include "optim/sgd.h"

#include "engine/core/error.h"
#include "engine/ops/optimizers.h"

namespace parabola {

Sgd::Sgd(std::vector<Tensor> parameters, const Options& options)
    : Optimizer(std::move(parameters), options.lr, options.clip, options.momentum != 0 ? 1 : 0), options_(options) {
  if (options.nesterov && options.momentum == 0)
    fail<UsageError>("optimizer", "got nesterov with a momentum of 0, expected a momentum above 0");
}

void Sgd::update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) {
  sgd(parameters, gradients, state_, {options_.momentum, options_.weight_decay, clip_, options_.nesterov}, norm_);
}

}  // namespace parabola
