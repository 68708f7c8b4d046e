// What layers need to fold themselves (Module::fold): weights as doubles, so that folding rounds once, at its end.
// Formulas: docs/method.md.
#pragma once
#include <span>
#include <vector>

#include "engine/core/tensor.h"

namespace parabola {

// y ↦ scale ∘ y + shift, output channel by output channel: what a BatchNorm is when its statistics stand.
struct ChannelMap {
  std::vector<double> scale, shift;
};
// scale = gamma / sqrt(variance + eps), shift = beta - mean scale.
ChannelMap norm_map(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance, double eps);

std::vector<double> values_of(const Tensor& tensor);  // any floating dtype, any device

// A parameter with these values, of the dtype and on the device of `like`.
Tensor parameter_from(const std::vector<double>& values, const Shape& shape, const Tensor& like);

// A parameter with the tensor's values, slice k along the axis multiplied by factor[k].
Tensor scaled_along(const Tensor& tensor, int axis, std::span<const double> factor);

Tensor shifted(const Tensor& tensor, std::span<const double> shift);  // elementwise

// Puts the map behind a layer, into its weights.
template <class Layer>
void absorb(const ChannelMap& map, Layer& layer) {
  layer.scale_outputs(map.scale);
  layer.shift_outputs(map.shift);
}

}  // namespace parabola
