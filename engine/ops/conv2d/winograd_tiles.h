// The transforms of winograd.h between images and the 36 matrices that are multiplied.
#pragma once
#include <algorithm>

#include "engine/ops/conv2d/convolve.h"
#include "engine/ops/conv2d/winograd_matrices.h"

namespace parabola::winograd {

// Channels that are transformed and multiplied together: at most so many, from `channel` on.
constexpr int64_t most_channels = 64;
constexpr int64_t chunk_at(int64_t channel, int64_t channels) { return std::min(most_channels, channels - channel); }
constexpr int64_t chunks_of(int64_t channels) { return (channels + most_channels - 1) / most_channels; }

// The width of chunks that are all alike.
inline int64_t even_chunk(int64_t channels) {
  int64_t width = std::min(most_channels, channels);
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

template <class T>
alignas(64) constexpr T no_pixels[64] = {};

template <class T>
[[gnu::always_inline]] inline Vector<T> at_least_zero(Vector<T> x) {
  return x > 0 ? x : Vector<T>{};
}

enum class Reads : uint8_t { image, normed, normed_sum };  // x itself, with a norm, and with a residual too

template <class T, Reads reads>
void transform_input(const ConvGeometry& g, const ConvInput<T>& x, int64_t begin, int64_t end, int64_t channel,
                     const Planes<T>& planes) {
  T* to = planes.data;
  each_row_of_windows(g, begin, end, [&](int64_t image, int64_t row, int64_t) {
    const T *rows[reach], *residual_rows[reach];
    int64_t step[reach];
    for (int i = 0; i < reach; ++i) {
      const int64_t h = row - g.padding + i;
      const bool inside = h >= 0 && h < g.H;
      const int64_t at = (image * g.H + h) * g.W * g.C + channel;
      rows[i] = inside ? x.x + at : no_pixels<T>;
      if constexpr (reads == Reads::normed_sum) residual_rows[i] = inside ? x.residual + at : no_pixels<T>;
      step[i] = inside ? g.C : 0;
    }
    for (int64_t c = 0; c < planes.width; c += vector_lanes<T>) {
      Vector<T> columns[reach][reach];  // B^T d, columns first
      Vector<T> mean{}, scale{}, shift{};
      if constexpr (reads != Reads::image)
        mean = load_vector(x.mean + channel + c), scale = load_vector(x.scale + channel + c),
        shift = load_vector(x.shift + channel + c);
      int64_t w = -g.padding;
      const auto read_columns = [&](int from) {
        for (int j = from; j < reach; ++j, ++w) {
          Vector<T> in[reach] = {};
          if (w >= 0 && w < g.W)
#pragma GCC unroll 6
            for (int i = 0; i < reach; ++i) {
              in[i] = load_vector(rows[i] + w * step[i] + c);
              if (reads == Reads::image || step[i] == 0) continue;
              in[i] = multiply_add<T>(in[i] - mean, scale, shift);
              if constexpr (reads == Reads::normed_sum) in[i] += load_vector(residual_rows[i] + w * step[i] + c);
              in[i] = at_least_zero<T>(in[i]);
            }
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

// B^T d B of the windows of pixels [begin, end), of x's channels from `channel` on. Zeros around an image stay zeros
// with a norm.
template <class T>
void transform_input(const ConvGeometry& g, const ConvInput<T>& x, int64_t begin, int64_t end, int64_t channel,
                     const Planes<T>& planes) {
  if (x.residual)
    transform_input<T, Reads::normed_sum>(g, x, begin, end, channel, planes);
  else if (x.mean)
    transform_input<T, Reads::normed>(g, x, begin, end, channel, planes);
  else
    transform_input<T, Reads::image>(g, x, begin, end, channel, planes);
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

}  // namespace parabola::winograd
