#include "optim/ema.h"

#include "engine/ops/optimizers.h"

namespace parabola {

Ema::Ema(std::vector<Tensor> values, double decay) : values_(std::move(values)), decay_(decay) {
  for (const Tensor& value : values_) averages_.push_back(value.clone(Category::optimizer));
}

void Ema::restart() {
  for (size_t i = 0; i < values_.size(); ++i) averages_[i].copy_from(values_[i]);
}

void Ema::update() { ema(averages_, values_, {decay_}); }

void Ema::swap() {
  for (size_t i = 0; i < values_.size(); ++i) {
    const Tensor kept = values_[i].clone(Category::optimizer);
    values_[i].copy_from(averages_[i]);
    averages_[i].copy_from(kept);
  }
}

}  // namespace parabola
