#include "optim/sgd.h"

#include "engine/ops/optimizers.h"

namespace parabola {

Sgd::Sgd(std::vector<Tensor> parameters, const Options& options)
    : Optimizer(std::move(parameters), options.lr, options.clip, options.momentum != 0 ? 1 : 0),
      momentum_(options.momentum),
      weight_decay_(options.weight_decay) {}

void Sgd::update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) {
  sgd(parameters, gradients, state_, {momentum_, weight_decay_, clip_}, norm_);
}

}  // namespace parabola
