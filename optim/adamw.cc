#include "optim/adamw.h"

#include "engine/ops/optimizers.h"

namespace parabola {

AdamW::AdamW(std::vector<Tensor> parameters, const Options& options)
    : Optimizer(std::move(parameters), options.lr, options.clip, 2),
      beta1_(options.beta1),
      beta2_(options.beta2),
      epsilon_(options.epsilon),
      weight_decay_(options.weight_decay) {}

void AdamW::update(std::span<const Tensor> parameters, std::span<const Tensor> gradients) {
  const std::span<const Tensor> moments(state_);
  const size_t count = parameters.size();
  adamw(parameters, gradients, moments.first(count), moments.subspan(count, count),
        {beta1_, beta2_, epsilon_, weight_decay_, clip_}, norm_);
}

}  // namespace parabola
