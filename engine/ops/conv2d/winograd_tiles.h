// The transforms of winograd.h between images and the 36 matrices that are multiplied.
#pragma once
#include <algorithm>

#include "engine/blas/vector.h"
#include "engine/ops/conv2d/geometry.h"

namespace parabola::winograd {

// Outputs and inputs of a window, a side; channels come in steps of what is whole vectors on any machine.
constexpr int64_t side = 4, reach = side + 2, positions = reach * reach, channel_step = 16;

// Channels that are transformed and multiplied together: at most 64, all chunks alike.
inline int64_t chunk_width(int64_t channels) {
  int64_t width = std::min<int64_t>(64, channels);
  while (channels % width != 0) width -= channel_step;
  return width;
}

// A matrix [windows, width] for each position. They lie a line of the cache further apart than their size, often a
// power of 2, or one window's values would all meet in the same set of the first level.
template <class T>
struct Planes {
  T* data;
  int64_t width, distance;
  Planes(T* data, int64_t windows, int64_t width)
      : data(data), width(width), distance(windows * width + channel_step) {}
  static int64_t elements(int64_t windows, int64_t width) { return positions * (windows * width + channel_step); }
  T* at(int64_t position) const { return data + position * distance; }
};

// Windows that a row, or a column, of so many pixels takes.
constexpr int64_t windows_over(int64_t pixels) { return (pixels + side - 1) / side; }

// Calls body(image, row, rows) for each row of windows of the pixels [begin, end), which are whole rows: `rows` of a
// window's are among them.
template <class Body>
void each_row_of_windows(const ConvGeometry& g, int64_t begin, int64_t end, const Body& body) {
  for (int64_t row = begin / g.Wo, end_row = end / g.Wo; row < end_row;) {
    const int64_t image = row / g.Ho, last = std::min(end_row, (image + 1) * g.Ho);
    for (; row < last; row += side) body(image, row - image * g.Ho, std::min(side, last - row));
    row = last;
  }
}

// Calls body(pixel, rows, columns, element of the first plane) for every window, whose first pixel is so many after
// `begin` and of which so many rows and columns are among the pixels.
template <class Body>
void each_window(const ConvGeometry& g, int64_t begin, int64_t end, int64_t width, const Body& body) {
  int64_t at = 0;
  each_row_of_windows(g, begin, end, [&](int64_t image, int64_t row, int64_t rows) {
    const int64_t pixel = (image * g.Ho + row) * g.Wo - begin;
    for (int64_t w = 0; w < g.Wo; w += side, at += width) body(pixel + w, rows, std::min(side, g.Wo - w), at);
  });
}

// The matrices applied to vectors that lie `step` apart, to others `to_step` apart. B^T:
template <class T>
[[gnu::always_inline]] inline void to_inputs(const Vector<T>* d, int step, Vector<T>* to, int to_step) {
  const Vector<T> three_halves = broadcast(T(1.5)), two = broadcast(T(2)), half = broadcast(T(-0.5));
  const Vector<T> d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], even = d[4 * step] - d2, odd = d3 - d1;
  to[0] = multiply_add<T>(three_halves, odd, d[0] - d2 + even);
  to[to_step] = multiply_add<T>(three_halves, d2 + d3, even + odd);
  to[2 * to_step] = multiply_add<T>(three_halves, d3 - d2, even - odd);
  to[3 * to_step] = multiply_add<T>(two, odd, even);
  to[4 * to_step] = multiply_add<T>(half, odd, even);
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

template <class T>
alignas(64) constexpr T no_pixels[64] = {};

// B^T d B of the windows of pixels [begin, end), of x's channels from `channel` on.
template <class T>
void transform_input(const ConvGeometry& g, const T* x, int64_t begin, int64_t end, int64_t channel,
                     const Planes<T>& planes) {
  T* to = planes.data;
  each_row_of_windows(g, begin, end, [&](int64_t image, int64_t row, int64_t) {
    const T* rows[reach];
    int64_t step[reach];
    for (int i = 0; i < reach; ++i) {
      const int64_t h = row - g.padding + i;
      const bool inside = h >= 0 && h < g.H;
      rows[i] = inside ? x + (image * g.H + h) * g.W * g.C + channel : no_pixels<T>;
      step[i] = inside ? g.C : 0;
    }
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> columns[reach][reach];  // B^T d, columns first
      int64_t w = -g.padding;
      const auto read_columns = [&](int from) {
        for (int j = from; j < reach; ++j, ++w) {
          Vector<T> in[reach] = {};
          if (w >= 0 && w < g.W)
#pragma GCC unroll 6
            for (int i = 0; i < reach; ++i) in[i] = load_vector(rows[i] + w * step[i] + c);
          to_inputs<T>(in, 1, columns[j], 1);
        }
      };
      read_columns(side);
      T* out = to + c;
      for (int64_t window = 0; window < windows_over(g.Wo); ++window, out += planes.width) {
        for (int j = 0; j < reach - side; ++j) std::copy_n(columns[side + j], reach, columns[j]);
        read_columns(reach - side);
        for (int i = 0; i < reach; ++i) {
          Vector<T> result[reach];
          to_inputs<T>(&columns[0][i], reach, result, 1);
#pragma GCC unroll 6
          for (int j = 0; j < reach; ++j) store_vector(out + (reach * i + j) * planes.distance, result[j]);
        }
      }
    }
    to += windows_over(g.Wo) * planes.width;
  });
}

// y = or += A^T m A + bias (null: none), for the pixels [begin, end), the first of which is at y.
template <class T>
void transform_output(const ConvGeometry& g, int64_t begin, int64_t end, const Planes<T>& planes, const T* bias,
                      bool accumulate, T* y, int64_t stride) {
  each_window(g, begin, end, planes.width, [&](int64_t pixel, int64_t rows, int64_t columns, int64_t at) {
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> sums[side][reach];
#pragma GCC unroll 6
      for (int j = 0; j < reach; ++j) {
        Vector<T> m[reach];
#pragma GCC unroll 6
        for (int i = 0; i < reach; ++i) m[i] = load_vector(planes.at(reach * i + j) + at + c);
        from_outputs<T>(m, 1, &sums[0][j], reach);
      }
      const Vector<T> start = bias ? load_vector(bias + c) : Vector<T>{};
      for (int i = 0; i < rows; ++i) {
        Vector<T> out[side];
        from_outputs<T>(sums[i], 1, out, 1);
        T* to = y + (pixel + i * g.Wo) * stride + c;
        for (int j = 0; j < columns; ++j, to += stride)
          store_vector(to, accumulate ? load_vector(to) + out[j] : out[j] + start);
      }
    }
  });
}

// A e A^T of the outputs' gradients of pixels [begin, end), of their channels from `channel` on.
template <class T>
void transform_gradient(const ConvGeometry& g, const T* dy, int64_t begin, int64_t end, int64_t channel,
                        const Planes<T>& planes) {
  each_window(g, begin, end, planes.width, [&](int64_t pixel, int64_t rows, int64_t columns, int64_t at) {
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> sums[reach][side];
      for (int j = 0; j < side; ++j) {
        Vector<T> e[side] = {};
        if (j < columns)
          for (int i = 0; i < rows; ++i) e[i] = load_vector(dy + (begin + pixel + i * g.Wo + j) * g.K + channel + c);
        to_gradients<T>(e, 1, &sums[0][j], side);
      }
      for (int i = 0; i < reach; ++i) {
        Vector<T> out[reach];
        to_gradients<T>(sums[i], 1, out, 1);
#pragma GCC unroll 6
        for (int j = 0; j < reach; ++j) store_vector(planes.at(reach * i + j) + at + c, out[j]);
      }
    }
  });
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
