#include "optim/adamw.h"

#include "engine/ops/optimizers.h"

namespace parabola {

AdamW::AdamW(const std::vector<ParameterGroup>& groups, const Options& options)
    : Optimizer(groups, options.lr, options.weight_decay, options.clip, 2), options_(options) {}

void AdamW::update(const Update& group) {
  adamw(group.parameters, group.gradients, group.states[0], group.states[1],
        {options_.beta1, options_.beta2, options_.epsilon, group.weight_decay, clip_}, norm_);
}

}  // namespace parabola
