// A 3x3 kernel of stride 1 has the gradients of x and of its weights in one pass over the pixels of x: nine sums for
// the weights, nine weights and what one pixel needs fit into 32 registers, so each vector of dy is loaded once for two
// products, and of x that pixel alone is needed.
#pragma once
#include "engine/blas/vector.h"
#include "engine/ops/conv2d/geometry.h"

namespace parabola::depthwise {

inline bool fits_one_pass(const ConvGeometry& g) { return many_registers && g.R == 3 && g.S == 3 && g.stride == 1; }

// One pixel's products, of a vector of channels: sums[tap] += x dy(r, s), dx += dy(r, s) weights[tap], where dy(r, s)
// is the output pixel that reads this one through tap 3 r + s. Of the kernel's rows those that reach(r) the output, of
// its columns those from `first` to before `end`.
template <class T, bool has_sums, bool has_dx, int first, int end, class Reaches, class Dy>
[[gnu::always_inline]] inline void add_pixel(const Reaches& reaches, const Dy& dy, Vector<T> x, Vector<T>& dx,
                                             const Vector<T> (&weights)[9], Vector<T> (&sums)[9]) {
#pragma GCC unroll 4
  for (int r = 0; r < 3; ++r) {
    if (!reaches(r)) continue;
#pragma GCC unroll 4
    for (int s = end - 1; s >= first; --s) {
      const int tap = 3 * r + s;
      const Vector<T> upstream = in_register<T>(dy(r, s));
      if constexpr (has_sums) sums[tap] = multiply_add<T>(x, upstream, sums[tap]);
      if constexpr (has_dx) dx = multiply_add<T>(upstream, weights[tap], dx);
    }
  }
}

}  // namespace parabola::depthwise
