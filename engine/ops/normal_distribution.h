// The normal distribution at a point, as gelu and mlp need it: Phi(x) = (1 + erf(x / sqrt 2)) / 2 and its derivative.
#pragma once
#include <cmath>
#include <numbers>

#include "engine/ops/vector_math.h"

namespace parabola {

// Flops of an element of gelu, x Phi(x): exp 14, the rest of the distribution 13, the product 1; backward 4 more.
constexpr double gelu_flops = 28, gelu_gradient_flops = 32;

template <class T>
struct Normal {
  T distribution, density;
};

// Abramowitz, Stegun, "Handbook of mathematical functions", 7.1.26, |error| <= 1.5e-7: erfc(z) = t p(t) e^(-z^2) for z
// >= 0 and t = 1 / (1 + 0.3275911 z). Its exponential, with z = |x| / sqrt 2, is the density's too.
inline Normal<float> normal(float x) {
  constexpr float half_root = 0.5F * std::numbers::sqrt2_v<float>;
  const float t = 1 / std::fma(0.3275911F * half_root, std::abs(x), 1.0F), exponential = vector_exp(-0.5F * x * x);
  float p = std::fma(t, 1.061405429F, -1.453152027F);
  p = std::fma(t, p, 1.421413741F);
  p = std::fma(t, p, -0.284496736F);
  p = std::fma(t, p, 0.254829592F);
  const float tail = 0.5F * t * p * exponential;
  // tail or 1 - tail; to choose between two constants takes no branch.
  const float whole = x < 0 ? 0.0F : 1.0F, sign = x < 0 ? 1.0F : -1.0F;
  return {std::fma(sign, tail, whole), exponential * std::numbers::inv_sqrtpi_v<float> * half_root};
}

inline Normal<double> normal(double x) {
  constexpr double half_root = 0.5 * std::numbers::sqrt2;
  return {0.5 * std::erfc(-x * half_root), std::exp(-0.5 * x * x) * std::numbers::inv_sqrtpi * half_root};
}

}  // namespace parabola
