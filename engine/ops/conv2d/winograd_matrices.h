// The matrices of winograd.h, applied to vectors of channels.
#pragma once
#include "engine/blas/vector.h"

namespace parabola::winograd {

// Outputs and inputs of a window, a side; channels come in steps of what is whole vectors on any machine.
constexpr int64_t side = 4, reach = side + 2, positions = reach * reach, channel_step = 16;

// A matrix times the vectors that lie `step` apart, put `to_step` apart. B^T:
template <class T>
[[gnu::always_inline]] inline void to_inputs(const Vector<T>* d, int step, Vector<T>* to, int to_step) {
  const Vector<T> three_halves = broadcast(T(1.5)), two = broadcast(T(2)), minus_half = broadcast(T(-0.5));
  const Vector<T> d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], even = d[4 * step] - d2, odd = d3 - d1;
  to[0] = multiply_add<T>(three_halves, odd, d[0] - d2 + even);
  to[to_step] = multiply_add<T>(three_halves, d2 + d3, even + odd);
  to[2 * to_step] = multiply_add<T>(three_halves, d3 - d2, even - odd);
  to[3 * to_step] = multiply_add<T>(two, odd, even);
  to[4 * to_step] = multiply_add<T>(minus_half, odd, even);
  to[5 * to_step] = multiply_add<T>(three_halves, even, d[5 * step] - d3 - odd);
}

// A^T:
template <class T>
[[gnu::always_inline]] inline void from_outputs(const Vector<T>* m, int step, Vector<T>* to, int to_step) {
  const Vector<T> sum = m[step] + m[2 * step], difference = m[step] - m[2 * step], m3 = m[3 * step], m4 = m[4 * step];
  to[0] = m[0] + sum + (m3 + m4);
  to[to_step] = multiply_add<T>(broadcast(T(0.5)), m3, multiply_add<T>(broadcast(T(-2)), m4, difference));
  to[2 * to_step] = multiply_add<T>(broadcast(T(0.25)), m3, multiply_add<T>(broadcast(T(4)), m4, sum));
  to[3 * to_step] =
      multiply_add<T>(broadcast(T(0.125)), m3, multiply_add<T>(broadcast(T(-8)), m4, difference)) + m[5 * step];
}

// A:
template <class T>
[[gnu::always_inline]] inline void to_gradients(const Vector<T>* e, int step, Vector<T>* to, int to_step) {
  const Vector<T> e1 = e[step], e2 = e[2 * step], e3 = e[3 * step], even = e[0] + e2, odd = e1 + e3;
  const Vector<T> quarter = broadcast(T(0.25)), four = broadcast(T(4));
  to[0] = e[0];
  to[to_step] = even + odd;
  to[2 * to_step] = even - odd;
  to[3 * to_step] =
      multiply_add<T>(broadcast(T(0.5)), multiply_add<T>(quarter, e3, e1), multiply_add<T>(quarter, e2, e[0]));
  to[4 * to_step] = multiply_add<T>(broadcast(T(-2)), multiply_add<T>(four, e3, e1), multiply_add<T>(four, e2, e[0]));
  to[5 * to_step] = e3;
}

// G:
template <class T>
[[gnu::always_inline]] inline void to_kernels(const Vector<T>* g, int step, Vector<T>* to, int to_step) {
  const Vector<T> g0 = g[0], g1 = g[step], g2 = g[2 * step];
  to[0] = g0;
  to[to_step] = broadcast(T(1) / 3) * (g0 + g2 + g1);
  to[2 * to_step] = broadcast(T(-1) / 3) * (g0 + g2 - g1);
  to[3 * to_step] = broadcast(T(-4) / 15) * (broadcast(T(4)) * g0 + (broadcast(T(2)) * g1 + g2));
  to[4 * to_step] = broadcast(T(1) / 15) * (g0 + (broadcast(T(4)) * g2 - broadcast(T(2)) * g1));
  to[5 * to_step] = g2;
}

// G^T:
template <class T>
[[gnu::always_inline]] inline void from_kernels(const Vector<T>* m, int step, Vector<T>* to, int to_step) {
  const Vector<T> third = broadcast(T(1) / 3), fifteenth = broadcast(T(1) / 15);
  const Vector<T> difference = third * (m[step] - m[2 * step]), sum = third * (m[step] + m[2 * step]);
  const Vector<T> m3 = broadcast(T(-4)) * m[3 * step], m4 = m[4 * step];
  to[0] = m[0] + difference + fifteenth * (broadcast(T(4)) * m3 + m4);
  to[to_step] = sum + fifteenth * (broadcast(T(2)) * (m3 - m4));
  to[2 * to_step] = difference + fifteenth * (m3 + broadcast(T(4)) * m4) + m[5 * step];
}

// G g G^T: a vector of weights for each of the 9 taps.
template <class T>
void transform_kernel(const Vector<T> (&kernel)[3][3], Vector<T> (&to)[reach][reach]) {
  Vector<T> rows[reach][3];
  for (int s = 0; s < 3; ++s) to_kernels<T>(&kernel[0][s], 3, &rows[0][s], 3);
  for (int i = 0; i < reach; ++i) to_kernels<T>(rows[i], 1, to[i], 1);
}

// G^T m G.
template <class T>
void transform_kernel_gradient(const Vector<T> (&m)[reach][reach], Vector<T> (&to)[3][3]) {
  Vector<T> rows[3][reach];
  for (int j = 0; j < reach; ++j) from_kernels<T>(&m[0][j], reach, &rows[0][j], reach);
  for (int r = 0; r < 3; ++r) from_kernels<T>(rows[r], 1, to[r], 1);
}

}  // namespace parabola::winograd
