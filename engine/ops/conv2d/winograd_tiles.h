// The transforms of winograd.h between images and the 16 matrices that are multiplied.
#pragma once
#include <algorithm>

#include "engine/blas/vector.h"
#include "engine/ops/conv2d/geometry.h"

namespace parabola::winograd {

constexpr int64_t positions = 16, channel_step = 16;

// Channels that are transformed and multiplied together: at most 64, all chunks alike.
inline int64_t chunk_width(int64_t channels) {
  int64_t width = std::min<int64_t>(64, channels);
  while (channels % width != 0) width -= channel_step;
  return width;
}

// 16 matrices [windows, width], position (i, j) of window and channel at (4 i + j) distance. They lie a line of the
// cache apart from what powers of two would give, or all 16 would meet in the same set of the first level.
template <class T>
struct Planes {
  T* data;
  int64_t width, distance;
  Planes(T* data, int64_t windows, int64_t width)
      : data(data), width(width), distance(elements_of_one(windows, width)) {}
  static int64_t elements_of_one(int64_t windows, int64_t width) { return windows * width + channel_step; }
  static int64_t elements(int64_t windows, int64_t width) { return positions * elements_of_one(windows, width); }
  T* at(int64_t position) const { return data + position * distance; }
};

// Windows of a row of pixels, or a column: every second one is the first of two.
constexpr int64_t pairs(int64_t pixels) { return (pixels + 1) / 2; }

// Calls body(image, row, whether the row after it is one of them too) for each second row of the pixels [begin, end),
// which are whole rows.
template <class Body>
void each_pair_of_rows(const ConvGeometry& g, int64_t begin, int64_t end, const Body& body) {
  for (int64_t row = begin / g.Wo, end_row = end / g.Wo; row < end_row;) {
    const int64_t image = row / g.Ho, last = std::min(end_row, (image + 1) * g.Ho);
    for (; row < last; row += 2) body(image, row - image * g.Ho, row + 1 < last);
    row = last;
  }
}

template <class T>
alignas(64) constexpr T no_pixels[64] = {};

// B^T d B of the windows that pixels [begin, end) read, of x's channels from `channel` on.
template <class T>
void transform_input(const ConvGeometry& g, const T* x, int64_t begin, int64_t end, int64_t channel,
                     const Planes<T>& planes) {
  T* to = planes.data;
  each_pair_of_rows(g, begin, end, [&](int64_t image, int64_t row, bool) {
    const T* rows[4];
    int64_t step[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t h = row - g.padding + i;
      const bool inside = h >= 0 && h < g.H;
      rows[i] = inside ? x + (image * g.H + h) * g.W * g.C + channel : no_pixels<T>;
      step[i] = inside ? g.C : 0;
    }
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> d[4][4];  // B^T d: window's column, row
      const auto load_column = [&](int64_t w, Vector<T> * column) __attribute__((always_inline)) {
        if (w < 0 || w >= g.W) {
          column[0] = column[1] = column[2] = column[3] = Vector<T>{};
          return;
        }
        Vector<T> in[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) in[i] = load_vector(rows[i] + w * step[i] + c);
        column[0] = in[0] - in[2], column[1] = in[1] + in[2], column[2] = in[2] - in[1], column[3] = in[1] - in[3];
      };
      load_column(-g.padding, d[0]);
      load_column(1 - g.padding, d[1]);
      T* out = to + c;
      for (int64_t w = 2 - g.padding; w < 2 - g.padding + g.Wo; w += 2, out += planes.width) {
        load_column(w, d[2]);
        load_column(w + 1, d[3]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          store_vector(out + (4 * i) * planes.distance, d[0][i] - d[2][i]);
          store_vector(out + (4 * i + 1) * planes.distance, d[1][i] + d[2][i]);
          store_vector(out + (4 * i + 2) * planes.distance, d[2][i] - d[1][i]);
          store_vector(out + (4 * i + 3) * planes.distance, d[1][i] - d[3][i]);
          d[0][i] = d[2][i], d[1][i] = d[3][i];
        }
      }
    }
    to += pairs(g.Wo) * planes.width;
  });
}

// Calls body(first pixel's offset, second row?, second column?, element of the planes' first) for every window.
template <class Body>
void each_window(const ConvGeometry& g, int64_t begin, int64_t end, int64_t width, const Body& body) {
  int64_t at = 0;
  each_pair_of_rows(g, begin, end, [&](int64_t image, int64_t row, bool second_row) {
    const int64_t pixel = (image * g.Ho + row) * g.Wo - begin;
    for (int64_t w = 0; w < g.Wo; w += 2, at += width) body(pixel + w, second_row, w + 1 < g.Wo, at);
  });
}

// y = or += A^T m A + bias (null: none), for the pixels [begin, end), the first of which is at y.
template <class T>
void transform_output(const ConvGeometry& g, int64_t begin, int64_t end, const Planes<T>& planes, const T* bias,
                      bool accumulate, T* y, int64_t stride) {
  each_window(g, begin, end, planes.width, [&](int64_t pixel, bool second_row, bool second_column, int64_t at) {
    T* to = y + pixel * stride;
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> sums[2][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        Vector<T> m[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) m[i] = load_vector(planes.at(4 * i + j) + at + c);
        sums[0][j] = m[0] + m[1] + m[2], sums[1][j] = m[1] - m[2] - m[3];
      }
      const Vector<T> start = bias ? load_vector(bias + c) : Vector<T>{};
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        if (i == 1 && !second_row) break;
        const Vector<T>* s = sums[i];
        const Vector<T> out[2] = {start + (s[0] + s[1] + s[2]), start + (s[1] - s[2] - s[3])};
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          if (j == 1 && !second_column) break;
          T* element = to + (i * g.Wo + j) * stride + c;
          store_vector(element, accumulate ? load_vector(element) + out[j] : out[j]);
        }
      }
    }
  });
}

// A e A^T of the outputs' gradients of pixels [begin, end), of their channels from `channel` on.
template <class T>
void transform_gradient(const ConvGeometry& g, const T* dy, int64_t begin, int64_t end, int64_t channel,
                        const Planes<T>& planes) {
  each_window(g, begin, end, planes.width, [&](int64_t pixel, bool second_row, bool second_column, int64_t at) {
    const T* from = dy + (begin + pixel) * g.K + channel;
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>, from += vector_lanes<T>) {
      const Vector<T> none{}, e[2][2] = {{load_vector(from), second_column ? load_vector(from + g.K) : none},
                                         {second_row ? load_vector(from + g.Wo * g.K) : none,
                                          second_row && second_column ? load_vector(from + (g.Wo + 1) * g.K) : none}};
      T* to = planes.data + at + c;
      const auto store_row = [&](int i, Vector<T> first, Vector<T> second) __attribute__((always_inline)) {
        store_vector(to + (4 * i) * planes.distance, first);
        store_vector(to + (4 * i + 1) * planes.distance, first + second);
        store_vector(to + (4 * i + 2) * planes.distance, first - second);
        store_vector(to + (4 * i + 3) * planes.distance, -second);
      };
      store_row(0, e[0][0], e[0][1]);
      store_row(1, e[0][0] + e[1][0], e[0][1] + e[1][1]);
      store_row(2, e[0][0] - e[1][0], e[0][1] - e[1][1]);
      store_row(3, -e[1][0], -e[1][1]);
    }
  });
}

// G g G^T: `kernel` has a vector of weights for each of the 9 taps.
template <class T>
[[gnu::always_inline]] inline void transform_kernel(const Vector<T> (&kernel)[3][3], Vector<T> (&out)[4][4]) {
  const Vector<T> half = broadcast(T(0.5));
  const auto expand = [half](Vector<T> a, Vector<T> b, Vector<T> c, Vector<T>* to, int step) {
    const Vector<T> ends = half * (a + c), middle = half * b;
    to[0] = a, to[step] = ends + middle, to[2 * step] = ends - middle, to[3 * step] = c;
  };
  Vector<T> rows[4][3];
  for (int j = 0; j < 3; ++j) expand(kernel[0][j], kernel[1][j], kernel[2][j], &rows[0][j], 3);
  for (int i = 0; i < 4; ++i) expand(rows[i][0], rows[i][1], rows[i][2], out[i], 1);
}

// G^T m G.
template <class T>
[[gnu::always_inline]] inline void transform_kernel_gradient(const Vector<T> (&m)[4][4], Vector<T> (&out)[3][3]) {
  const Vector<T> half = broadcast(T(0.5));
  const auto reduce = [half](const Vector<T>* from, int step, Vector<T>* to, int to_step) {
    const Vector<T> sum = half * (from[step] + from[2 * step]);
    to[0] = from[0] + sum, to[to_step] = half * (from[step] - from[2 * step]), to[2 * to_step] = sum + from[3 * step];
  };
  Vector<T> rows[3][4];
  for (int j = 0; j < 4; ++j) reduce(&m[0][j], 4, &rows[0][j], 4);
  for (int i = 0; i < 3; ++i) reduce(rows[i], 1, out[i], 1);
}

}  // namespace parabola::winograd
