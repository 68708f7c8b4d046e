// The index arithmetic of kernels, where no tensor of the tests is long enough.
#include "engine/ops/walk.cuh"

#include <doctest/doctest.h>

using namespace parabola;

TEST_CASE("Divisor: exact around every multiple, up to the largest tensor") {
  constexpr int64_t most = int64_t{1} << 59;
  for (const int64_t d : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, int64_t{64}, int64_t{641}, int64_t{1000003},
                          (int64_t{1} << 31) - 1, (int64_t{1} << 32) + 1, most - 1, most}) {
    const Divisor divisor(d);
    for (const int64_t factor : {int64_t{1}, int64_t{2}, int64_t{3}, (int64_t{1} << 31) + 5, most / d}) {
      if (factor > most / d) continue;
      for (const int64_t n : {factor * d - 1, factor * d, factor * d + 1}) REQUIRE(divisor.divide(n) == n / d);
    }
    REQUIRE(divisor.divide(0) == 0);
    REQUIRE(divisor.value() == d);
  }
}

TEST_CASE("DeviceWalk: the places of a Walk, one after the other") {
  const Shape shape{3, 1, 4, 5};
  const Walk walk(shape, {20, 0, 1, 4}, broadcast_strides({4, 1}, shape));
  const DeviceWalk device(walk);
  walk.each_row([&](int64_t begin, int64_t a, int64_t b, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      const auto place = device.at(begin + k);
      REQUIRE(place.a == a + k * walk.step_a());
      REQUIRE(place.b == b + k * walk.step_b());
    }
  });
}
