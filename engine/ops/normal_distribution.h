// GELU at a point, from the normal distribution: gelu(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2. Everything
// follows from the tail Q(a) = Phi(-a) for a = |x|: gelu(x) = max(x, 0) - a Q(a), which rounds once, and the slope is
// Q(a) - a phi(a) for x < 0 and one minus that for the others, with the density phi.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace parabola {

// Flops of an element of gelu by these functions (a table's are fewer, gelu_at.h): the tail 30, the rest 3; of its
// slope: the tail, 17, and 3.
constexpr double gelu_flops = 33, gelu_gradient_flops = 50;

// 2^y = 2^k 2^f for -126 <= y <= 0, k the integer next to it, 2^f by a polynomial, 1e-7 of it off at most.
inline float power_of_two(float y) {
  constexpr float to_integer = 0x1.8p23F;  // added to a float, it leaves the integer part in the lowest bits
  const float shifted = y + to_integer, f = y - (shifted - to_integer);
  float p = std::fma(f, 1.326472731307149e-3F, 9.671512991189957e-3F);
  p = std::fma(f, p, 5.550733581185341e-2F);
  p = std::fma(f, p, 0.24022242426872253F);
  p = std::fma(f, p, 0.6931470036506653F);
  p = std::fma(f, p, 1.0F);
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + std::bit_cast<uint32_t>(1.0F));
}

// Q(a), a >= 0, off by at most 8e-8, and by 2% of itself up to a = 5.5: log2 Q by a polynomial, fitted on [0, 6] so
// that the largest error of Q and of the slope is least, and falling beyond.
inline float normal_tail(float a) {
  float p = std::fma(a, -2.0170512016193243e-6F, 2.9956452635815367e-5F);
  p = std::fma(a, p, -1.4372174337040633e-4F);
  p = std::fma(a, p, -2.3224912001751363e-4F);
  p = std::fma(a, p, 7.1755764074623585e-3F);
  p = std::fma(a, p, -5.256268382072449e-2F);
  p = std::fma(a, p, -0.45919090509414673F);
  p = std::fma(a, p, -1.151106595993042F);
  return power_of_two(std::fma(a, p, -1.0F));
}
inline double normal_tail(double a) { return 0.5 * std::erfc(a * (0.5 * std::numbers::sqrt2)); }

// gelu's slope at -a, Q(a) - a phi(a), with tail = Q(a): a polynomial times it; with the tail, within 2e-7 of it.
inline float slope_below(float a, float tail) {
  float q = std::fma(a, -1.128839448938379e-5F, 1.4419417129829526e-4F);
  q = std::fma(a, q, -5.806272383779287e-4F);
  q = std::fma(a, q, -8.737770840525627e-4F);
  q = std::fma(a, q, 2.0017940551042557e-2F);
  q = std::fma(a, q, -0.10940414667129517F);
  q = std::fma(a, q, -0.6365370154380798F);
  q = std::fma(a, q, -0.7978902459144592F);
  return tail * std::fma(a, q, 1.0F);
}
inline double slope_below(double a, double tail) {
  return tail - a * std::exp(-0.5 * a * a) * (std::numbers::inv_sqrtpi * 0.5 * std::numbers::sqrt2);
}

// |x|, but 10 at most, where Q is 1e-33: nothing beside any gelu, and 2^y above stays in its range. The bits of
// positive floats are ordered as these are, and comparing them takes no mask. (A NaN becomes 10; max(x, 0) is to keep
// it.)
inline float size_for_tail(float x) {
  constexpr uint32_t magnitude = 0x7FFFFFFF;
  return std::bit_cast<float>(std::min(std::bit_cast<uint32_t>(x) & magnitude, std::bit_cast<uint32_t>(10.0F)));
}
inline double size_for_tail(double x) { return std::min(std::abs(x), 40.0); }

// gelu at x, and how it changes there.
template <class T>
struct GeluAt {
  T value, slope;
  explicit GeluAt(T x) {
    const T a = size_for_tail(x), tail = normal_tail(a);
    value = std::fma(-a, tail, x < 0 ? T(0) : x);
    slope = T(0.5) + std::copysign(T(0.5) - slope_below(a, tail), x);
  }
};

}  // namespace parabola
