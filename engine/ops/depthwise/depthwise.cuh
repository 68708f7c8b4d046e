// What the CUDA kernels of the depthwise family are made of. A block takes a *tile* of an image: up to 16 rows of a
// *run* of 8 pixels, and 32 channels, one for each lane of its warps. A thread computes a run of one channel at a time,
// in registers. What the tile's sums read, the tile with a halo, is copied into shared memory once, where it fits.
#pragma once
#include <numeric>

#include "engine/cuda/warp.cuh"
#include "engine/ops/depthwise/kernels.h"

namespace parabola::depthwise {

constexpr int run_pixels = 8, most_tile_rows = 16;
constexpr int most_threads = most_tile_rows * warp_size;
constexpr size_t most_shared = 96 * 1024;  // two blocks on a multiprocessor of an H100

// The data of a view that there may be none of.
template <class T>
T* data_of(std::span<const TensorView> views, size_t i) {
  return i < views.size() ? views[i].data<T>() : nullptr;
}

// A part of an image; it may reach over the edges.
struct Window {
  int top, left, rows, columns;
  constexpr int64_t pixels() const { return int64_t{rows} * columns; }
};

// The numbers of one of a problem's two kernels. R = 0: there is none.
struct Filter {
  int R = 0, S = 0, stride = 1, padding = 0, dilation = 1;
  int period = 1;  // every so many taps one reads a whole number of strides further on

  Filter() = default;
  explicit Filter(const ConvGeometry& g)
      : R(static_cast<int>(g.R)),
        S(static_cast<int>(g.S)),
        stride(static_cast<int>(g.stride)),
        padding(static_cast<int>(g.padding)),
        dilation(static_cast<int>(g.dilation)),
        period(stride / std::gcd(stride, dilation)) {}
  constexpr explicit operator bool() const { return R > 0; }
  constexpr int taps() const { return R * S; }

  // What `tile_rows` runs of output pixels read of the input.
  constexpr Window inputs(int row, int column, int tile_rows) const {
    return {row * stride - padding, column * stride - padding, (tile_rows - 1) * stride + (R - 1) * dilation + 1,
            (run_pixels - 1) * stride + (S - 1) * dilation + 1};
  }
  // The output pixels that read `tile_rows` runs of input pixels, where a run's are `stride` apart.
  constexpr Window outputs(int row, int column, int tile_rows) const {
    const int top = floor_divide(row + padding - (R - 1) * dilation), bottom = (row + tile_rows - 1 + padding) / stride;
    const int left = floor_divide(column + padding - (S - 1) * dilation), right = (column + padding) / stride;
    return {top, left, bottom - top + 1, right - left + run_pixels};
  }

 private:
  constexpr int floor_divide(int n) const { return n >= 0 ? n / stride : -((stride - 1 - n) / stride); }
};

// The numbers of a problem.
struct Layer {
  int64_t N, C;
  int H, W, Ho, Wo, rank;
  double scale;
  Filter linear, factors;

  explicit Layer(const Problem& problem)
      : N(problem.any().N),
        C(problem.any().C),
        H(static_cast<int>(problem.any().H)),
        W(static_cast<int>(problem.any().W)),
        Ho(static_cast<int>(problem.any().Ho)),
        Wo(static_cast<int>(problem.any().Wo)),
        rank(static_cast<int>(problem.rank)),
        scale(problem.scale) {
    if (problem.linear) linear = Filter(*problem.linear);
    if (problem.quadratic) factors = Filter(*problem.quadratic);
  }
  constexpr int64_t pixels() const { return int64_t{Ho} * Wo; }
  // What both filters read for a tile.
  constexpr Window inputs(int row, int column, int tile_rows) const {
    if (!factors) return linear.inputs(row, column, tile_rows);
    const Window w = factors.inputs(row, column, tile_rows);
    if (!linear) return w;
    const Window v = linear.inputs(row, column, tile_rows);
    const int top = std::min(v.top, w.top), left = std::min(v.left, w.left);
    return {top, left, std::max(v.top + v.rows, w.top + w.rows) - top,
            std::max(v.left + v.columns, w.left + w.columns) - left};
  }
};

// Where a tile lies, and which of its 32 channels is this thread's; idle: beyond the last one, which it then computes
// again and does not write.
struct Place {
  int64_t image, channel;
  int row, column;
  bool idle;
};

// Images of so many pixels and channels, cut into tiles, numbered image by image. A run's pixels are `spacing` apart.
struct Tiling {
  int64_t channels;
  int rows, columns, spacing = 1;
  int tile_rows = 0, down = 0, across = 0;  // how high a tile is, how many there are

  constexpr int64_t tiles_in_image() const { return int64_t{down} * across; }
  constexpr int64_t groups() const { return (channels + warp_size - 1) / warp_size; }  // of channels
  constexpr int row_of(int tile) const { return tile / across * tile_rows; }
  constexpr int column_of(int tile) const {
    const int run = tile % across;
    return run / spacing * spacing * run_pixels + run % spacing;
  }
  __device__ Place place(int64_t tile, int64_t group) const {
    const int64_t channel = group * warp_size + lane_index(), last = channels - 1, image = tile / tiles_in_image();
    const int in_image = static_cast<int>(tile - image * tiles_in_image());
    return {image, channel < last ? channel : last, row_of(in_image), column_of(in_image), channel > last};
  }

  // Cuts the rows into equal tiles, as high as the shared memory allows: bytes(), of a block, at most most_shared.
  // False, and the highest tiles, if it allows none.
  template <class Bytes>
  bool fit(Bytes&& bytes) {
    for (int most = most_tile_rows; most > 0; most /= 2) {
      cut(most);
      if (bytes() <= most_shared) return true;
    }
    cut(most_tile_rows);
    return false;
  }
  // The largest window(row, column, tile_rows) of any tile, in pixels.
  template <class Windows>
  int64_t largest(Windows&& window) const {
    int64_t pixels = 0;
    for (int tile = 0; tile < tiles_in_image(); ++tile)
      pixels = std::max(pixels, window(row_of(tile), column_of(tile), tile_rows).pixels());
    return pixels;
  }

 private:
  void cut(int most) {
    down = (rows + most - 1) / most;
    tile_rows = down > 0 ? (rows + down - 1) / down : 1;
    across = (columns + run_pixels * spacing - 1) / (run_pixels * spacing) * spacing;
  }
};

}  // namespace parabola::depthwise
