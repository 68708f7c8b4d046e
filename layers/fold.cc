#include "layers/fold.h"

#include <cmath>

namespace parabola {

ChannelMap norm_map(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance, double eps) {
  ChannelMap map{values_of(gamma), values_of(beta)};
  const std::vector<double> means = values_of(mean), variances = values_of(variance);
  for (size_t k = 0; k < map.scale.size(); ++k) {
    map.scale[k] /= std::sqrt(variances[k] + eps);
    map.shift[k] -= means[k] * map.scale[k];
  }
  return map;
}

std::vector<double> values_of(const Tensor& tensor) {
  return tensor.on_cpu().to(DType::f64, Category::parameters).to_vector<double>();
}

Tensor parameter_from(const std::vector<double>& values, const Shape& shape, const Tensor& like) {
  return Tensor::from(values, shape, Category::parameters)
      .to(like.dtype(), Category::parameters)
      .to(like.device(), Category::parameters);
}

Tensor scaled_along(const Tensor& tensor, int axis, std::span<const double> factor) {
  const Shape& shape = tensor.shape();
  const auto channels = static_cast<size_t>(shape[axis]);
  const auto inner = static_cast<size_t>(shape.product(axis + 1, shape.rank()));
  std::vector<double> values = values_of(tensor);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factor[i / inner % channels];
  return parameter_from(values, shape, tensor);
}

Tensor shifted(const Tensor& tensor, std::span<const double> shift) {
  std::vector<double> values = values_of(tensor);
  for (size_t i = 0; i < values.size(); ++i) values[i] += shift[i];
  return parameter_from(values, tensor.shape(), tensor);
}

}  // namespace parabola
