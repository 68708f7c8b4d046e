// Patches that CUDA kernels gather straight from the image, while they load a tile: what the columns of columns.cuh
// would hold, which then never exist. Index arithmetic is in 32 bits: for tensors of at most 2^30 elements.
#pragma once
#include "engine/cuda/warp.cuh"
#include "engine/ops/conv2d/columns.h"

namespace parabola {

// Neighbours that are read and written together, by 16 bytes where they have as many.
template <class T, int width>
struct alignas(width * sizeof(T) < 16 ? width * sizeof(T) : 16) Values {
  T values[width];
};
template <int width, class T>
__device__ Values<T, width> load_values(const T* from) {
  return *reinterpret_cast<const Values<T, width>*>(from);
}
// Zeros where `exists` is false. The element is numbered apart from the tensor, whose address then stays in constant
// memory and takes no registers.
template <int width, class T>
__device__ Values<T, width> load_values_if(bool exists, const T* tensor, int element) {
  Values<T, width> values{};
  if (exists) values = load_values<width>(tensor + element);
  return values;
}
template <class T, int width>
__device__ void store_values(T* to, const Values<T, width>& values) {
  *reinterpret_cast<Values<T, width>*>(to) = values;
}
template <class T>
bool begins_at_vector(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// What a block reads, and how far apart: one group's `channels` of images, by pixels that are `stride` and taps that
// are `step` apart (columns.h, SampledAxis).
struct PatchSource {
  int height, width, all_channels, channels, stride, step;
};

// A place within a patch, whose values are in the order kernel row, kernel column, channel; also a distance.
struct PatchPlace {
  int row, column, channel;
};

// A pixel of a grid: where its patch begins in the image, perhaps outside of it; the number of that element in the
// tensor; and where its result is, below zero for none.
struct alignas(16) PatchPixel {
  int top, left, from, to;
};

// No place of an image: further out than any tap is from the first one.
constexpr int outside = -(1 << 30);

// The pixels that have their patches from a source, and the patches' taps (SampledAxis, the rest of it).
struct PatchAxis {
  int grid, first, taps;
};
struct PatchGrid {
  PatchAxis rows, columns;
  int images, channels;

  PatchGrid() = default;
  PatchGrid(const Sampling& s, int64_t groups)
      : rows(axis(s.rows)),
        columns(axis(s.columns)),
        images(static_cast<int>(s.images)),
        channels(static_cast<int>(s.channels / groups)) {}
  static PatchAxis axis(const SampledAxis& a) {
    return {static_cast<int>(a.grid), static_cast<int>(a.first), static_cast<int>(a.taps)};
  }

  __host__ __device__ int pixels() const { return images * rows.grid * columns.grid; }
  __host__ __device__ int depth() const { return rows.taps * columns.taps * channels; }  // values of a patch

  // Pixel `index` of the batch; one that reads zeros from `end` on. to: the index.
  __device__ PatchPixel pixel(const PatchSource& s, int index, int end) const {
    if (index >= end) return {outside, outside, 0, -1};
    const int row = index / columns.grid, image = row / rows.grid;
    const int top = (row - image * rows.grid) * s.stride + rows.first;
    const int left = (index - row * columns.grid) * s.stride + columns.first;
    return {top, left, ((image * s.height + top) * s.width + left) * s.all_channels, index};
  }
  // The place `index` values after the first one; beyond the patch: a row of no tap.
  __host__ __device__ PatchPlace place(int index) const {
    if (depth() == 0) return {rows.taps, 0, 0};
    return {index / channels / columns.taps, index / channels % columns.taps, index % channels};
  }
  // `step` further on, which is place() of the distance.
  __device__ void advance(PatchPlace& at, const PatchPlace& step) const {
    at.channel += step.channel, at.column += step.column, at.row += step.row;
    if (at.channel >= channels) at.channel -= channels, ++at.column;
    if (at.column >= columns.taps) at.column -= columns.taps, ++at.row;
  }
};

// What all pixels read of one place in their patches, of the channels from `first_channel` on.
struct PatchTap {
  bool exists;
  int down, across, offset;

  PatchTap() = default;
  __device__ PatchTap(const PatchSource& s, const PatchGrid& grid, const PatchPlace& at, int first_channel)
      : exists(at.row < grid.rows.taps),
        down(at.row * s.step),
        across(at.column * s.step),
        offset((down * s.width + across) * s.all_channels + at.channel + first_channel) {}

  // Zeros around the image, and beyond the patch.
  template <int width, class T>
  __device__ Values<T, width> read(const PatchSource& s, const PatchPixel& pixel, const T* x) const {
    const bool inside = static_cast<unsigned>(pixel.top + down) < static_cast<unsigned>(s.height) &&
                        static_cast<unsigned>(pixel.left + across) < static_cast<unsigned>(s.width);
    return load_values_if<width>(exists && inside, x, pixel.from + offset);
  }
};

}  // namespace parabola
