#include "layers/inference.h"

#include <algorithm>

#include "engine/core/error.h"

namespace parabola {

Inference::Inference(Module& model) : model_(model) {
  if (model.training())
    fail<UsageError>("inference", "got a model in training mode, expected set_training(false) before");
}

Tensor Inference::operator()(const Tensor& images) {
  auto pass = std::ranges::find_if(passes_, [&](const PlannedPass& planned) { return planned.fits(images); });
  if (pass == passes_.end()) {
    passes_.emplace_back([this](const Tensor& x) { return model_(x); }, images);
    pass = std::prev(passes_.end());
  }
  return (*pass)(images);
}

}  // namespace parabola
