#include "engine/core/half.h"

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <limits>

namespace parabola::half_test {

namespace {

float next_up(float x) { return std::nextafter(x, INFINITY); }

// All 2^16 values of a type: each converts to a float and back to the same bits, and between two neighbours the nearer
// one is chosen, the one with an even last bit where both are as near.
template <class Half>
void check_all_values(uint16_t infinity) {
  int wrong = 0;
  for (uint32_t sign : {0U, 0x8000U}) {
    for (uint32_t magnitude = 0; magnitude <= infinity; ++magnitude) {
      Half value;
      value.bits = static_cast<uint16_t>(sign | magnitude);
      const float exact = value;
      wrong += Half(exact).bits != value.bits;
      if (magnitude + 1 >= infinity) continue;
      Half above;
      above.bits = static_cast<uint16_t>(value.bits + 1);
      const double sum = static_cast<double>(exact) + static_cast<double>(static_cast<float>(above));
      const auto middle = static_cast<float>(sum / 2);  // exact: it has one bit more than either
      const uint16_t even = magnitude % 2 == 0 ? value.bits : above.bits;
      const float outward = std::nextafter(middle, sign ? -INFINITY : INFINITY), inward = std::nextafter(middle, 0.0F);
      wrong += Half(middle).bits != even;
      wrong += Half(outward).bits != above.bits;
      wrong += Half(inward).bits != value.bits;
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("f16: every value survives, and all others round to the nearest") {
  check_all_values<f16>(0x7c00);
  CHECK(f16(1).bits == 0x3c00);
  CHECK(f16(-2).bits == 0xc000);
  CHECK(static_cast<float>(f16(65504)) == 65504);
  CHECK(std::isinf(static_cast<float>(f16(65520))));
  CHECK(static_cast<float>(f16(std::nextafter(65520.0F, 0.0F))) == 65504);
  CHECK(f16(0x1p-25F).bits == 0);  // half of the smallest value: a tie
  CHECK(f16(next_up(0x1p-25F)).bits == 1);
  CHECK(f16(-0.0F).bits == 0x8000);
}

TEST_CASE("bf16: every value survives, and all others round to the nearest") {
  check_all_values<bf16>(0x7f80);
  CHECK(bf16(1).bits == 0x3f80);
  CHECK(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::max()))));
  CHECK(bf16(-0.0F).bits == 0x8000);
}

TEST_CASE("half types: a NaN stays one") {
  for (uint32_t payload : {1U, 0x1fffU, 0x400000U, 0x7fffffU}) {
    const float nan = std::bit_cast<float>(0x7f800000U | payload);
    CHECK(std::isnan(static_cast<float>(f16(nan))));
    CHECK(std::isnan(static_cast<float>(bf16(nan))));
  }
}

}  // namespace parabola::half_test
