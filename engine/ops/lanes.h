// Sums over contiguous elements, in an order that their number alone fixes.
#pragma once
#include <cstdint>
#include <cstring>

namespace parabola {

// The sum of `lanes` values: of halves that lie `lanes` / 2 apart, and so on. In registers, as far as vectors go.
template <int lanes, class T>
[[gnu::always_inline]] inline T folded(const T* sums) {
  if constexpr (lanes == 1) {
    return sums[0];
  } else {
    constexpr int half = lanes / 2;
    using Half __attribute__((vector_size(half * sizeof(T)))) = T;
    Half low, high;
    std::memcpy(&low, sums, sizeof low);
    std::memcpy(&high, sums + half, sizeof high);
    low += high;
    T sum[half];
    std::memcpy(sum, &low, sizeof low);
    return folded<half>(sum);
  }
}

// Sum of term(i) for i in [0, count): 16 lanes (an AVX-512 vector of floats) run side by side and are folded at the
// end. The compiler turns the lanes into vectors without being allowed to reorder a sum, and rounding errors grow with
// count / 16 only.
template <class T, class Term>
T lane_sum(int64_t count, Term&& term) {
  constexpr int lanes = 16;
  T sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  if (i == count) return folded<lanes>(sums);
  T all[lanes];  // apart: indexed by a variable, it lies in memory
  std::memcpy(all, sums, sizeof all);
  for (int lane = 0; i < count; ++i, ++lane) all[lane] += term(i);
  return folded<lanes>(all);
}

}  // namespace parabola
