// exp, log, tanh and the like for loops that the compiler is to vectorise: without a call or a branch. constexpr, so
// that CUDA kernels may call them as well. Errors are in units in the last place (ulp) of the result; unary_test.cc
// measures them. Double serves checks, not speed.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace parabola {

constexpr float ln2_high = 0x1.62e4p-1F;          // 15 bits of ln 2, so that k ln2_high is exact
constexpr float ln2_low = 0x1.7f7d1cf79abcap-20;  // the rest of it

// e^x = 2^k (1 + r q) with |r| <= ln 2 / 2 and 1 + r q = e^r, Taylor's polynomial of degree 7, whose rest is 5e-9
// there.
struct SplitExp {
  float r, q;
  uint32_t k;  // modulo 2^32, above the lowest 23 bits of a float that were used to round it
  // 2^(k + offset), put together from bits; in the range of normal numbers.
  constexpr float power(uint32_t offset = 0) const {
    return std::bit_cast<float>(((k + offset) << 23) + std::bit_cast<uint32_t>(1.0F));
  }
};
constexpr SplitExp split_exp(float x) {
  constexpr float to_integer = 0x1.8p23F;  // added to a float, it leaves the integer part in the lowest bits
  const float shifted = std::fma(x, 1.44269504F, to_integer);  // 1 / ln 2
  const float k = shifted - to_integer;
  const float r = std::fma(k, -ln2_low, std::fma(k, -ln2_high, x));
  float q = std::fma(r, 1 / 5040.0F, 1 / 720.0F);
  q = std::fma(r, q, 1 / 120.0F);
  q = std::fma(r, q, 1 / 24.0F);
  q = std::fma(r, q, 1 / 6.0F);
  q = std::fma(r, q, 1 / 2.0F);
  q = std::fma(r, q, 1.0F);
  return {r, q, std::bit_cast<uint32_t>(shifted)};
}

// e^x within 1 ulp, 1.5 below 2^-125 = e^-86.6; exactly 1 for 0. Infinite where it is larger than any float, 0 where it
// is less than 2^-125.5.
constexpr float vector_exp(float x) {
  const float above = x < -87 ? -87.0F : x;  // there k - 1 = -127, whose power of two is put together as 0
  const SplitExp e = split_exp(above > 89 ? 89.0F : above);
  const float half = std::fma(e.r, e.q, 1.0F) * e.power(-1U);  // k may be 128, and 2^128 is no float
  return half + half;
}

// tanh x within 3 ulp, near 0 as well: with t = e^(-2|x|) - 1, which is small there, |tanh x| = -t / (t + 2).
constexpr float vector_tanh(float x) {
  const float z = -2 * std::abs(x);
  const SplitExp e = split_exp(z < -30 ? -30.0F : z);
  const float power = e.power(), t = std::fma(power, e.r * e.q, power - 1);
  return std::copysign(t / (t + 2), x);
}

// 1 / (1 + e^-x) within 3 ulp.
constexpr float vector_sigmoid(float x) { return 1 / (1 + vector_exp(-x)); }

// ln x within 1 ulp. x = 2^k m with m in [sqrt(1/2), sqrt 2); with f = m - 1 and s = f / (2 + f),
// ln m = 2 artanh s = f - s (f - R), R = 2 s^2 / 3 + 2 s^4 / 5 + ..., whose rest is 2e-9.
constexpr float vector_log(float x) {
  constexpr uint32_t root_half = std::bit_cast<uint32_t>(0.70710678F);
  constexpr uint32_t least_normal = 1U << 23, infinity = 255U << 23;
  // A subnormal number is taken times 2^23. Bits are compared and the factor is put together from them: comparisons of
  // values that follow from each other, and what is only computed in one case, would become branches.
  const auto given = std::bit_cast<uint32_t>(x);
  const uint32_t subnormal = given < least_normal;
  const auto bits = std::bit_cast<uint32_t>(x * std::bit_cast<float>((127 + 23 * subnormal) << 23));
  const int32_t exponent = static_cast<int32_t>(bits - root_half) >> 23;
  const float m = std::bit_cast<float>(bits - (static_cast<uint32_t>(exponent) << 23));
  const float k = static_cast<float>(exponent - 23 * static_cast<int32_t>(subnormal));
  const float f = m - 1, s = f / (2 + f), z = s * s, half_square = 0.5F * f * f;
  float R = std::fma(z, 2 / 9.0F, 2 / 7.0F);
  R = std::fma(z, R, 2 / 5.0F);
  R = z * std::fma(z, R, 2 / 3.0F);
  const float small = std::fma(k, ln2_low, s * (half_square + R));
  const float y = std::fma(k, ln2_high, f - (half_square - small));
  const float end = std::sqrt(x) - 1 / std::abs(x);  // -infinity at 0, NaN below, x where it is infinity or NaN
  const uint32_t ordinary = 0U - static_cast<uint32_t>(given - 1 < infinity - 1);  // all bits or none
  return std::bit_cast<float>((ordinary & std::bit_cast<uint32_t>(y)) | (~ordinary & std::bit_cast<uint32_t>(end)));
}

constexpr double vector_exp(double x) { return std::exp(x); }
constexpr double vector_log(double x) { return std::log(x); }
constexpr double vector_tanh(double x) { return std::tanh(x); }
constexpr double vector_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace parabola
