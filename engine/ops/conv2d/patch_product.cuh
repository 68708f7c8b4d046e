// Products of patches and a kernel on CUDA: a convolution, or one phase of its transpose.
#pragma once
#include <algorithm>

#include "engine/ops/conv2d/patches.cuh"

namespace parabola {

constexpr int product_chunk = 16;  // values of a patch that a block loads at a time
constexpr int thread_pixels = 8;   // that a thread computes

// The results of a block: pixels x channels, of which a thread computes 8 x thread_channels. Where that takes fewer
// threads than a block has, the threads form slices that share the chunks' values among them. Of floats, a
// multiprocessor shall have registers for so many `blocks` at once.
template <int pixels_, int channels_, int thread_channels_, int threads_, int blocks_>
struct PatchTile {
  static constexpr int pixels = pixels_, channels = channels_, thread_channels = thread_channels_, threads = threads_;
  static constexpr int blocks = blocks_;
  static constexpr int pixel_lanes = pixels / thread_pixels, channel_lanes = channels / thread_channels;
  static constexpr int slice_threads = pixel_lanes * channel_lanes, slices = threads / slice_threads;
  // In shared memory: patches [pixels][chunk], see patch_place, and weights [chunk][channels], their rows padded so
  // that fewer of the threads that write them meet in a bank.
  static constexpr int weight_stride = channels + 4, first_weight = pixels * product_chunk;
  static constexpr int stage = first_weight + product_chunk * weight_stride;
  static_assert(pixel_lanes % 8 == 0 && threads % slice_threads == 0 && slices * 4 <= product_chunk);

  template <class T>
  static constexpr size_t shared_bytes() {
    return pixels * sizeof(PatchPixel) + std::max(2 * stage, slices / 2 * pixels * channels) * sizeof(T);
  }
};

// Where a pixel's value of a chunk is. Its four fours are in another order for every other pixel: so neither 8 pixels
// whose same values are read together meet in a bank, nor those that are written together.
__device__ inline int patch_place(int pixel, int value) {
  return pixel * product_chunk + 4 * (value / 4 ^ pixel / 2 % 4) + value % 4;
}

// One convolution of a product: its pixels, whose results are those at (y_row + i * y_stride, y_column + j * y_stride).
struct PatchPhase {
  PatchGrid grid;
  PatchPlace step;   // of product_chunk
  int first_weight;  // of the first tap
  int y_row, y_column;
};

// y [pixels, outputs] of each group = or += patches * weight + bias. The weights of an output, and of its taps and
// channels, are so many elements apart. Phases: of the transpose of a convolution with a stride, those of 2 at once.
constexpr int most_phases = 4;
struct PatchProduct {
  PatchSource source;
  int groups, outputs;
  int weight_group, weight_output, weight_row, weight_column, weight_channel;
  int y_height, y_width, y_stride;
  PatchPhase phases[most_phases];

  __device__ PatchPixel pixel(const PatchPhase& phase, int index) const {
    PatchPixel at = phase.grid.pixel(source, index, phase.grid.pixels());
    const int row = index / phase.grid.columns.grid, image = row / phase.grid.rows.grid;
    const int i = phase.y_row + (row - image * phase.grid.rows.grid) * y_stride;
    const int j = phase.y_column + (index - row * phase.grid.columns.grid) * y_stride;
    if (at.to >= 0) at.to = ((image * y_height + i) * y_width + j) * groups * outputs;
    return at;
  }
};

// The part of the weights that a block reads: from element `first` on, of so many outputs.
struct WeightRange {
  int first, outputs;
};

// A thread's share of the next chunk, between global and shared memory: `width` neighbours along the channels, of
// always the same place in the chunk.
template <class T, class Tile, int width>
struct ProductLoads {
  static constexpr int units = product_chunk / width, rows = Tile::threads / units;
  static constexpr int patch_loads = Tile::pixels / rows, weight_loads = (Tile::channels + rows - 1) / rows;
  static_assert(Tile::pixels % rows == 0 && rows % 8 == 0);
  Values<T, width> patches[patch_loads], weights[weight_loads];
  PatchPlace place;
  int unit, row;

  __device__ explicit ProductLoads(const PatchGrid& grid)
      : unit(static_cast<int>(threadIdx.x) % units), row(static_cast<int>(threadIdx.x) / units) {
    place = grid.place(unit * width);
  }

  __device__ void load(const PatchProduct& p, const PatchPhase& phase, const PatchPixel* pixels, const T* x,
                       int first_channel, const T* weight, const WeightRange& range) {
    const PatchTap tap(p.source, phase.grid, place, first_channel);
#pragma unroll
    for (int i = 0; i < patch_loads; ++i) patches[i] = tap.read<width>(p.source, pixels[row + i * rows], x);
    const int first =
        range.first + place.row * p.weight_row + place.column * p.weight_column + place.channel * p.weight_channel;
#pragma unroll
    for (int i = 0; i < weight_loads; ++i) {
      if (Tile::channels % rows != 0 && row >= Tile::channels) continue;
      const int n = row + i * rows, element = first + n * p.weight_output;
      const bool exists = tap.exists && n < range.outputs;
      if (width == 1 || p.weight_channel == 1) {
        weights[i] = load_values_if<width>(exists, weight, element);
      } else {
#pragma unroll
        for (int k = 0; k < width; ++k)
          weights[i].values[k] = load_values_if<1>(exists, weight, element + k * p.weight_channel).values[0];
      }
    }
    phase.grid.advance(place, phase.step);
  }

  __device__ void store(T* stage) const {
#pragma unroll
    for (int i = 0; i < patch_loads; ++i)
      store_values(stage + patch_place(row, unit * width) + i * rows * product_chunk, patches[i]);
    T* to = stage + Tile::first_weight + unit * width * Tile::weight_stride + row;
#pragma unroll
    for (int i = 0; i < weight_loads; ++i) {
      if (Tile::channels % rows != 0 && row >= Tile::channels) continue;
#pragma unroll
      for (int k = 0; k < width; ++k) to[k * Tile::weight_stride + i * rows] = weights[i].values[k];
    }
  }
};

// A thread's place in its block, and its results: pixels pixel + i * pixel_lanes, channels 4 * channel + j % 4 of every
// 4 * channel_lanes.
template <class T, class Tile>
struct ProductSums {
  static constexpr int quads = Tile::thread_channels / 4;
  T sums[thread_pixels][Tile::thread_channels] = {};
  int slice, channel, pixel;

  __device__ ProductSums()
      : slice(static_cast<int>(threadIdx.x) / Tile::slice_threads),
        channel(static_cast<int>(threadIdx.x) % Tile::channel_lanes),
        pixel(static_cast<int>(threadIdx.x) % Tile::slice_threads / Tile::channel_lanes) {}

  __device__ int first_channel(int quad) const { return 4 * (channel + quad * Tile::channel_lanes); }

  // Adds the slice's part of a chunk: every slices-th four values of the patches, in their order.
  __device__ void add(const T* stage) {
    const T* weights = stage + Tile::first_weight;
#pragma unroll
    for (int first = 0; first < product_chunk; first += 4 * Tile::slices) {
      const int depth = first + 4 * slice;
      Values<T, 4> a[thread_pixels];
#pragma unroll
      for (int i = 0; i < thread_pixels; ++i)
        a[i] = load_values<4>(stage + patch_place(pixel, depth) + i * Tile::pixel_lanes * product_chunk);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int q = 0; q < quads; ++q) {
          const Values<T, 4> b = load_values<4>(weights + (depth + k) * Tile::weight_stride + first_channel(q));
#pragma unroll
          for (int i = 0; i < thread_pixels; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sums[i][4 * q + j] = std::fma(a[i].values[k], b.values[j], sums[i][4 * q + j]);
        }
      }
    }
  }

  __device__ Values<T, 4> quad(int i, int q) const {
    return {sums[i][4 * q], sums[i][4 * q + 1], sums[i][4 * q + 2], sums[i][4 * q + 3]};
  }

  // Adds up the slices by halves, in shared memory: the first one has all.
  __device__ void add_slices(T* scratch) {
    const int lane = static_cast<int>(threadIdx.x) % Tile::slice_threads;
#pragma unroll
    for (int half = Tile::slices / 2; half > 0; half /= 2) {
      T* mine = scratch + 4 * (slice % half * thread_pixels * quads * Tile::slice_threads + lane);
#pragma unroll
      for (int e = 0; e < thread_pixels * quads; ++e)
        if (slice >= half && slice < 2 * half)
          store_values(mine + 4 * e * Tile::slice_threads, quad(e / quads, e % quads));
      __syncthreads();
#pragma unroll
      for (int e = 0; e < thread_pixels * quads; ++e)
        if (slice < half) {
          const Values<T, 4> other = load_values<4>(mine + 4 * e * Tile::slice_threads);
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[e / quads][4 * (e % quads) + j] += other.values[j];
        }
      __syncthreads();
    }
  }
};

}  // namespace parabola
