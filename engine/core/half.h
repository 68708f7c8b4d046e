// The two 16-bit floating types, as bits that turn into a float and back; kernels compute in float. Ours, since neither
// C++20 nor a machine without the CUDA toolkit has them; constexpr, so that CUDA kernels may call them as well.
#pragma once
#include <bit>
#include <cstdint>

namespace parabola {

// bfloat16: the upper half of a float. 8 exponent bits, 7 of fraction.
struct bf16 {
  uint16_t bits;
  bf16() = default;
  // Rounds to nearest, ties to even; a NaN stays one, whatever its payload.
  explicit constexpr bf16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(is_nan ? word >> 16 | 0x40u : (word + 0x7fffu + (word >> 16 & 1u)) >> 16);
  }
  constexpr operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE binary16: 5 exponent bits, 10 of fraction; subnormal below 2^-14, infinite from 65,520 on.
struct f16 {
  uint16_t bits;
  f16() = default;
  // Rounds to nearest, ties to even.
  explicit constexpr f16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    const uint32_t sign = word >> 16 & 0x8000u, magnitude = word & 0x7fffffffu;
    uint32_t half = 0;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | (magnitude >> 13 & 0x3ffu);  // NaN, made quiet
    } else if (magnitude >= 0x477ff000u) {
      half = 0x7c00u;  // 65,520 and more
    } else if (magnitude < 0x38800000u) {
      // Below 2^-14 the result counts in steps of 2^-24: adding 1/2, whose last bit is worth 2^-24, rounds to them.
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
    } else {
      half = (magnitude - ((127u - 15u) << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    }
    bits = static_cast<uint16_t>(sign | half);
  }
  constexpr operator float() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, exponent = bits >> 10 & 0x1fu,
                   fraction = bits & 0x3ffu;
    if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);  // infinity, NaN
    if (exponent == 0) {
      const float subnormal = static_cast<float>(fraction) * 0x1p-24f;
      return sign ? -subnormal : subnormal;
    }
    return std::bit_cast<float>(sign | (exponent + 127 - 15) << 23 | fraction << 13);
  }
};

}  // namespace parabola
