// Sums over contiguous elements, in an order that their number alone fixes.
#pragma once
#include <cstdint>

namespace parabola {

// Sum of term(i) for i in [0, count): 16 lanes (an AVX-512 vector of floats) run side by side and are folded at the
// end. The compiler turns the lanes into vectors without being allowed to reorder a sum, and rounding errors grow with
// count / 16 only.
template <class T, class Term>
T lane_sum(int64_t count, Term&& term) {
  constexpr int64_t lanes = 16;
  T sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) sums[lane] += term(i);
  for (int64_t width = lanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

}  // namespace parabola
