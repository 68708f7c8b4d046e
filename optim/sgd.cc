#include "optim/sgd.h"

#include "engine/ops/optimizers.h"

namespace parabola {

Sgd::Sgd(std::vector<Tensor> parameters, const Options& options)
    : Optimizer(std::move(parameters), options, options.momentum != 0 ? 1 : 0), momentum_(options.momentum) {}

void Sgd::update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) {
  sgd(parameters, gradients, state_, {momentum_, options_.weight_decay, options_.clip}, norm_);
}

}  // namespace parabola
