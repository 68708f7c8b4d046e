// The normal distribution on CUDA: Phi(x) and its derivative phi(x).
#pragma once
#include <cmath>
#include <numbers>

#include "engine/cuda/launch.cuh"

namespace parabola {

template <class Real>
__device__ Real normal_distribution(Real x) {
  return Real(0.5) * std::erfc(-x * (Real(0.5) * std::numbers::sqrt2_v<Real>));
}
template <class Real>
__device__ Real normal_density(Real x) {
  return std::exp(Real(-0.5) * x * x) * std::numbers::inv_sqrtpi_v<Real> * (Real(0.5) * std::numbers::sqrt2_v<Real>);
}

}  // namespace parabola
