// The one inner function of the depthwise family: every sum of products, forward and backward, is made here (but those
// of gradients.h's add_both_gradients). In each of the three passes over a tile (a zero-padded image of one vector of
// channels) a few sums stay in registers, the *lanes*, while a *walk* goes over the other index:
//
//   pass               lanes           walk              source           factors
//   forward            output pixels   taps              image            weights
//   weight gradient    taps            output pixels     image            output gradient
//   input gradient     input pixels    taps              output gradient  weights
//
//   sum[lane] = sum over steps of the walk of source[lane.source + step.source] * factors[step.other]
//
// in the order of the walk, whatever the number of lanes and terms: so all ways to compute a sum here give the same
// bits.
#pragma once
#include "engine/blas/vector.h"
#include "engine/ops/depthwise/tables.h"

namespace parabola::depthwise {

// Sums of up to two terms (a and b of a factor pair), which share what is read of the source.
template <class T>
struct Sums {
  static constexpr int lanes = std::max({pixel_lanes, tap_lanes, 7});  // 7: a row of taps, the longest run
  Vector<T> term[2][lanes];
};

// Run = 1: a step is one product a lane. Run > 1: a step stands for Run products, source and factors moving on together
// (the source by Spread), and lane i is i vectors behind lane 0; so what is loaded once serves several lanes. Every
// product of a lane has its own order, which is that of the walk. Factors of the second term are `plane` further.
template <class T, int Terms, int Lanes, int Run, int Spread>
[[gnu::always_inline]] inline void accumulate(const Vector<T>* source, const Link* lanes, const Steps& walk,
                                              const Vector<T>* factors, int64_t plane, Sums<T>& sums) {
  static_assert(Lanes <= Sums<T>::lanes);
  Vector<T> sum[Terms][Lanes];
#pragma GCC unroll 16
  for (int i = 0; i < Lanes; ++i)
#pragma GCC unroll 2
    for (int t = 0; t < Terms; ++t) sum[t][i] = Vector<T>{};
  const Vector<T>* at[Lanes];
#pragma GCC unroll 16
  for (int i = 0; i < Lanes; ++i) at[i] = source + lanes[i].source;
  const Link* first = walk.first;
  for (int64_t p = 0; p < walk.planes; ++p, first += walk.plane_steps) {
    for (const Link *next = first, *end = first + walk.count; next < end; ++next) {
      const Link step = *next;
      const Vector<T>* factor = factors + step.other;
      Vector<T> f[Terms][Run];
#pragma GCC unroll 16
      for (int k = 0; k < Run; ++k)
#pragma GCC unroll 2
        for (int t = 0; t < Terms; ++t) f[t][k] = factor[t * plane + k];
      if constexpr (Run == 1) {
#pragma GCC unroll 16
        for (int i = 0; i < Lanes; ++i) {
          const Vector<T> value = at[i][step.source];
#pragma GCC unroll 2
          for (int t = 0; t < Terms; ++t) sum[t][i] = multiply_add<T>(value, f[t][0], sum[t][i]);
        }
      } else {
        const Vector<T>* from = at[0] + step.source;
#pragma GCC unroll 16
        for (int position = 0; position < Lanes + (Run - 1) * Spread; ++position) {
          const Vector<T> value = from[position];
#pragma GCC unroll 16
          for (int k = 0; k < Run; ++k) {
            const int i = position - k * Spread;
            if (i < 0 || i >= Lanes) continue;
#pragma GCC unroll 2
            for (int t = 0; t < Terms; ++t) sum[t][i] = multiply_add<T>(value, f[t][k], sum[t][i]);
          }
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Lanes; ++i)
#pragma GCC unroll 2
    for (int t = 0; t < Terms; ++t) sums.term[t][i] = sum[t][i];
}

// Lanes are pixels, those from `lane` on, and the walk goes over taps.
template <class T, int Terms>
[[gnu::always_inline]] inline void sum_over_taps(const Pass& pass, const Vector<T>* source, size_t lane,
                                                 const Vector<T>* factors, int64_t plane, Sums<T>& sums) {
  const auto run = [&]<int Run, int Spread>() {
    accumulate<T, Terms, pixel_lanes, Run, Spread>(source, &pass.lanes[lane], pass.steps(lane / pixel_lanes), factors,
                                                   plane, sums);
  };
  switch (pass.run) {
    case Run::none: return run.template operator()<1, 1>();
    case Run::three: return run.template operator()<3, 1>();
    case Run::three_by_two: return run.template operator()<3, 2>();
    case Run::three_by_three: return run.template operator()<3, 3>();
    case Run::five: return run.template operator()<5, 1>();
    case Run::seven: return run.template operator()<7, 1>();
  }
}

// Lanes are taps, `walk` goes over pixels (a part of the pass's).
template <class T, int Terms>
void sum_over_pixels(const Pass& pass, const Vector<T>* source, const Link* lanes, const Steps& walk,
                     const Vector<T>* factors, int64_t plane, Sums<T>& sums) {
  switch (pass.run) {
    case Run::five: return accumulate<T, Terms, 5, pixel_lanes, 1>(source, lanes, walk, factors, plane, sums);
    case Run::seven: return accumulate<T, Terms, 7, pixel_lanes, 1>(source, lanes, walk, factors, plane, sums);
    default: return accumulate<T, Terms, tap_lanes, 1, 1>(source, lanes, walk, factors, plane, sums);
  }
}

}  // namespace parabola::depthwise
