// Sums of products on CUDA: a source, which is an image or a tile of it, times a filter's taps or the gradients of
// pixels.
#pragma once
#include "engine/ops/depthwise/depthwise.cuh"

namespace parabola::depthwise {

// One channel of one image, with zeros around it.
template <class T>
struct Image {
  static constexpr bool is_tile = false;
  const T* data;
  int64_t channels;
  int rows, columns;

  __device__ Image(const T* images, const Place& place, int64_t channels_, int rows_, int columns_)
      : data(images + place.image * rows_ * columns_ * channels_ + place.channel),
        channels(channels_),
        rows(rows_),
        columns(columns_) {}
  __device__ bool has(int row, int column) const { return row >= 0 && row < rows && column >= 0 && column < columns; }
  __device__ int64_t offset(int row, int column) const { return (int64_t{row} * columns + column) * channels; }
  __device__ T at(int row, int column) const { return has(row, column) ? data[offset(row, column)] : T(0); }

  // For a window that is too large for shared memory.
  static __device__ Image open(const Image& image, const Window&, int64_t) { return image; }
};

// A window of it in shared memory.
template <class T>
struct SharedTile {
  static constexpr bool is_tile = true;
  const T* data;
  int top, left, columns;

  __device__ T at(int row, int column) const { return data[((row - top) * columns + column - left) * warp_size]; }

  // All threads of the block copy it together, to the shared memory from element `offset` on.
  static __device__ SharedTile open(const Image<T>& image, const Window& window, int64_t offset) {
    T* shared = shared_memory<T>() + offset;
    __syncthreads();  // what was there may still be in use
    const int pixels = window.rows * window.columns, step = warps_in_block();
    constexpr int batch = 8;  // loads on their way at a time
    int row = 0, column = warp_index();
    for (int pixel = warp_index(); pixel < pixels; pixel += batch * step) {
      T values[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i, column += step) {
        for (; column >= window.columns && row < window.rows; column -= window.columns) ++row;
        values[i] = row < window.rows ? image.at(window.top + row, window.left + column) : T(0);
      }
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (pixel + i * step < pixels) shared[(pixel + i * step) * warp_size + lane_index()] = values[i];
    }
    __syncthreads();
    return {shared + lane_index(), window.top, window.left, window.columns};
  }
};

// The taps that a pixel's sum is made of, along one axis: how many; where the first one reads in the source, and the
// step to where the next one reads; which of the filter's taps it is, and the step to the next.
struct Axis {
  int count, at, step, tap, tap_step;
};
struct Taps {
  Axis rows, columns;
  int pixel_step;  // in the source, from one pixel of a run to the next
};

// Of output pixels, whose source is the input.
__device__ inline Taps output_taps(const Filter& f, int row, int column) {
  return {{f.R, row * f.stride - f.padding, f.dilation, 0, 1},
          {f.S, column * f.stride - f.padding, f.dilation, 0, 1},
          f.stride};
}

// Of input pixels `stride` apart, whose source is the output's gradient: tap t reads at (pixel + padding - t *
// dilation) / stride, where that is whole. From the last tap to the first, so that the source is read forwards.
__device__ inline Axis input_axis(const Filter& f, int taps, int pixel) {
  int first = 0;
  while (first < f.period && (pixel + f.padding - first * f.dilation) % f.stride != 0) ++first;
  if (first >= f.period || first >= taps) return {0, 0, 0, 0, 0};
  const int count = (taps - 1 - first) / f.period + 1, last = first + (count - 1) * f.period;
  return {count, (pixel + f.padding - last * f.dilation) / f.stride, f.period * f.dilation / f.stride, last, -f.period};
}
__device__ inline Taps input_taps(const Filter& f, int row, int column) {
  return {input_axis(f, f.R, row), input_axis(f, f.S, column), 1};
}

// sums[t][i] += sum over k of source(row, column + i + k * spread) * factors[t][k], in the order of k. What is read
// once serves several sums.
template <int spread, int lanes, int terms, int steps, int width, class Source, class T>
__device__ void slide(const Source& source, int row, int column, const T (&factors)[terms][steps],
                      T (&sums)[terms][width]) {
#pragma unroll
  for (int position = 0; position < lanes + (steps - 1) * spread; ++position) {
    const T value = source.at(row, column + position);
#pragma unroll
    for (int k = 0; k < steps; ++k) {
      const int i = position - k * spread;
      if (i < 0 || i >= lanes) continue;
#pragma unroll
      for (int t = 0; t < terms; ++t) sums[t][i] = std::fma(value, factors[t][k], sums[t][i]);
    }
  }
}

// A row of taps whose number and distance are known to the compiler.
template <int count, int spread, int terms, class Source, class T>
__device__ void add_known_row(const Source& source, int row, int column, const T* const (&filters)[terms],
                              int64_t weight, int64_t weight_step, T (&sums)[terms][run_pixels]) {
  T factors[terms][count];
#pragma unroll
  for (int k = 0; k < count; ++k)
#pragma unroll
    for (int t = 0; t < terms; ++t) factors[t][k] = filters[t][weight + k * weight_step];
  slide<spread, run_pixels>(source, row, column, factors, sums);
}

// sums[t][i] += source times the taps of filter t, [R, S, C] from this thread's channel on, for pixel i of a run; row
// by row, and in a row in the order of the axis. So all ways to compute a sum give the same bits.
template <int terms, class Source, class T>
__device__ void add_taps(const Source& source, const Taps& taps, const T* const (&filters)[terms], int S, int64_t C,
                         T (&sums)[terms][run_pixels]) {
  const auto& [count, column, step, tap, tap_step] = taps.columns;
  const int64_t weight_step = tap_step * C;
  const bool neighbours = Source::is_tile && taps.pixel_step == 1;
  for (int r = 0; r < taps.rows.count; ++r) {
    const int row = taps.rows.at + r * taps.rows.step;
    int64_t weight = (int64_t{taps.rows.tap + r * taps.rows.tap_step} * S + tap) * C;
    if (neighbours && count == 7 && step == 1) {
      add_known_row<7, 1>(source, row, column, filters, weight, weight_step, sums);
    } else if (neighbours && count == 3 && step == 3) {
      add_known_row<3, 3>(source, row, column, filters, weight, weight_step, sums);
    } else if (neighbours && count == 3 && step == 1) {
      add_known_row<3, 1>(source, row, column, filters, weight, weight_step, sums);
    } else {
      for (int s = 0; s < count; ++s, weight += weight_step) {
        T factor[terms];
#pragma unroll
        for (int t = 0; t < terms; ++t) factor[t] = filters[t][weight];
#pragma unroll
        for (int i = 0; i < run_pixels; ++i) {
          const T value = source.at(row, column + s * step + i * taps.pixel_step);
#pragma unroll
          for (int t = 0; t < terms; ++t) sums[t][i] = std::fma(value, factor[t], sums[t][i]);
        }
      }
    }
  }
}

// Sums of a tile that are made side by side: nine are a 3x3 filter.
constexpr int taps_at_once = 9;

// The sums of a part, while a block adds them up: in shared memory or in their place in the partials.
template <class T>
struct Totals {
  T *sums, *scratch;  // of this lane; scratch: [warps][taps_at_once], in shared memory
  int64_t pitch;
  bool idle;

  // Adds what all warps have in values[0 .. count), warp by warp, to the sums from `to` on.
  template <int width>
  __device__ void add(const T (&values)[width], int count, int64_t to) const {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < width; ++i) scratch[(warp_index() * taps_at_once + i) * warp_size] = values[i];
    __syncthreads();
    for (int i = warp_index(); i < count && !idle; i += warps_in_block()) {
      T sum = sums[(to + i) * pitch];
      for (int warp = 0; warp < warps_in_block(); ++warp) sum += scratch[(warp * taps_at_once + i) * warp_size];
      sums[(to + i) * pitch] = sum;
    }
  }
};

}  // namespace parabola::depthwise
