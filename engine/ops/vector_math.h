// exp for loops that the compiler is to vectorise: without a call or a branch.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace parabola {

// e^x for x <= 88; exactly 1 for 0, and 0 where e^x is below the least normal number. Relative error below 2^-22.
// x = k ln 2 + r with |r| <= ln 2 / 2: 2^k is put together from bits, e^r is Taylor's polynomial of degree 7, whose
// rest is 5e-9 there.
inline float vector_exp(float x) {
  constexpr float lowest = -87.33654F;              // ln 2^-126
  constexpr float to_integer = 0x1.8p23F;           // added to a float, it leaves the integer part in the lowest bits
  constexpr float ln2_high = 0x1.62e4p-1F;          // 15 bits of ln 2, so that k ln2_high is exact
  constexpr float ln2_low = 0x1.7f7d1cf79abcap-20;  // the rest of it
  const float shifted = std::fma(x < lowest ? lowest : x, 1.44269504F, to_integer);  // 1 / ln 2
  const float k = shifted - to_integer;
  const float r = std::fma(k, -ln2_low, std::fma(k, -ln2_high, x));
  float power = std::fma(r, 1 / 5040.0F, 1 / 720.0F);
  power = std::fma(r, power, 1 / 120.0F);
  power = std::fma(r, power, 1 / 24.0F);
  power = std::fma(r, power, 1 / 6.0F);
  power = std::fma(r, power, 1 / 2.0F);
  power = std::fma(r, power, 1.0F);
  power = std::fma(r, power, 1.0F);
  const uint32_t two_to_k = (std::bit_cast<uint32_t>(shifted) << 23) + std::bit_cast<uint32_t>(1.0F);
  return x < lowest ? 0.0F : power * std::bit_cast<float>(two_to_k);
}

inline double vector_exp(double x) { return std::exp(x); }  // double serves checks, not speed

}  // namespace parabola
