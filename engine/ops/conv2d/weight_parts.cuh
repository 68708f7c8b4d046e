// Sums of dy times patches over a part of the pixels on CUDA: what a block of conv2d_weight_parts does.
#pragma once
#include <algorithm>

#include "engine/ops/conv2d/patches.cuh"

namespace parabola {

// A block adds up, over one part of the pixels, some groups of 48 values of the patch (three taps of 16 channels; any
// number of whole 3x3 patches of those) for 16, 32 or 64 outputs: six warps, each for 16 or 32 of the outputs and every
// so-many-th pixel. They load 48 pixels at a time.
constexpr int weight_threads = 192, part_step = 48, depth_group = 48;

template <int outputs_, int depth_groups_>
struct WeightTile {
  static constexpr int outputs = outputs_, depth_groups = depth_groups_, depth = depth_groups * depth_group;
  static constexpr int thread_outputs = outputs == 16 ? 4 : 8, thread_depth = depth / 8;
  static constexpr int warp_outputs = 4 * thread_outputs, slices = 6 * warp_outputs / outputs;
  static constexpr int stage = part_step * (depth + outputs);  // patches [48][depth], dy [48][outputs]
  template <class T>
  static constexpr size_t shared_bytes() {
    return 2 * part_step * sizeof(PatchPixel) + std::max(2 * stage, slices * outputs * depth) * sizeof(T);
  }
};

struct WeightProduct {
  PatchSource source;
  PatchGrid grid;
  int groups, outputs;  // of a group
  int part_pixels, parts;

  // From `end` on patches are zeros, and so are the gradients.
  __device__ PatchPixel pixel(int index, int end) const {
    PatchPixel at = grid.pixel(source, index, end);
    at.to *= groups * outputs;
    return at;
  }
};

// A thread's share of the next pixels, between global and shared memory: always the same place in the patch and the
// same outputs, `width` of them.
template <class T, class Tile, int width>
struct WeightLoads {
  static constexpr int patch_units = depth_group / width, patch_rows = weight_threads / patch_units;
  static constexpr int output_units = Tile::outputs / width, output_rows = weight_threads / output_units;
  static constexpr int patch_loads = part_step / patch_rows, output_loads = part_step / output_rows;
  static_assert(weight_threads % patch_units == 0 && part_step % patch_rows == 0 && part_step % output_rows == 0);
  Values<T, width> patches[patch_loads][Tile::depth_groups], gradients[output_loads];
  PatchTap taps[Tile::depth_groups];
  int patch_row = static_cast<int>(threadIdx.x) / patch_units, unit = static_cast<int>(threadIdx.x) % patch_units;
  int output_row = static_cast<int>(threadIdx.x) / output_units;
  int output = static_cast<int>(threadIdx.x) % output_units * width;

  __device__ WeightLoads(const WeightProduct& p, int first_depth, int group) {
#pragma unroll
    for (int m = 0; m < Tile::depth_groups; ++m)
      taps[m] = PatchTap(p.source, p.grid, p.grid.place(first_depth + m * depth_group + unit * width),
                         group * p.source.channels);
  }

  // `outputs` from element first_output of a pixel's dy on are the tile's.
  __device__ void load(const PatchSource& source, const PatchPixel* pixels, const T* x, const T* dy, int first_output,
                       int outputs) {
#pragma unroll
    for (int i = 0; i < patch_loads; ++i) {
      const PatchPixel pixel = pixels[patch_row + i * patch_rows];
#pragma unroll
      for (int m = 0; m < Tile::depth_groups; ++m) patches[i][m] = taps[m].template read<width>(source, pixel, x);
    }
#pragma unroll
    for (int i = 0; i < output_loads; ++i) {
      const int at = pixels[output_row + i * output_rows].to;
      gradients[i] = load_values_if<width>(at >= 0 && output < outputs, dy, at + first_output + output);
    }
  }

  __device__ void store(T* stage) const {
#pragma unroll
    for (int i = 0; i < patch_loads; ++i)
#pragma unroll
      for (int m = 0; m < Tile::depth_groups; ++m)
        store_values(stage + (patch_row + i * patch_rows) * Tile::depth + m * depth_group + unit * width,
                     patches[i][m]);
    T* to = stage + part_step * Tile::depth + output_row * Tile::outputs + output;
#pragma unroll
    for (int i = 0; i < output_loads; ++i) store_values(to + i * output_rows * Tile::outputs, gradients[i]);
  }
};

// A thread's results: outputs output + 16 * (i / 4) + i % 4, and of the patch's values four of every 32 and, where 16
// are left, two of those.
template <class T, class Tile>
struct WeightSums {
  static constexpr int quads = Tile::depth / 32, pairs = Tile::depth % 32 / 16;
  T sums[Tile::thread_outputs][Tile::thread_depth] = {};
  int lane = lane_index() % 8, slice = warp_index() % Tile::slices;
  int output = warp_index() / Tile::slices * Tile::warp_outputs + lane_index() / 8 * 4;

  template <int width>
  __device__ void add(const Values<T, 4>& gradients, const Values<T, width>& patch, int i, int j) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int l = 0; l < width; ++l) {
        T& sum = sums[i + k][j + l];
        sum = std::fma(gradients.values[k], patch.values[l], sum);
      }
  }

  __device__ void add(const T* stage) {
#pragma unroll
    for (int first = 0; first < part_step; first += Tile::slices) {
      const T* patch = stage + (first + slice) * Tile::depth;
      const T* gradients = stage + part_step * Tile::depth + (first + slice) * Tile::outputs + output;
      Values<T, 4> a[Tile::thread_outputs / 4];
#pragma unroll
      for (int q = 0; q < Tile::thread_outputs / 4; ++q) a[q] = load_values<4>(gradients + 16 * q);
#pragma unroll
      for (int j = 0; j < quads; ++j) {
        const Values<T, 4> four = load_values<4>(patch + 32 * j + 4 * lane);
#pragma unroll
        for (int q = 0; q < Tile::thread_outputs / 4; ++q) add(a[q], four, 4 * q, 4 * j);
      }
      if (pairs == 0) continue;
      const Values<T, 2> two = load_values<2>(patch + 32 * quads + 2 * lane);
#pragma unroll
      for (int q = 0; q < Tile::thread_outputs / 4; ++q) add(a[q], two, 4 * q, 4 * quads);
    }
  }

  // scratch [slices][outputs][depth].
  __device__ void store(T* scratch) const {
#pragma unroll
    for (int i = 0; i < Tile::thread_outputs; ++i) {
      T* to = scratch + (slice * Tile::outputs + output + 16 * (i / 4) + i % 4) * Tile::depth;
#pragma unroll
      for (int j = 0; j < 4 * quads; ++j) to[32 * (j / 4) + 4 * lane + j % 4] = sums[i][j];
#pragma unroll
      for (int j = 0; j < 2 * pairs; ++j) to[32 * quads + 2 * lane + j] = sums[i][4 * quads + j];
    }
  }
};

}  // namespace parabola
