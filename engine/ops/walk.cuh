// Index arithmetic on CUDA for tensors that have strides of their own: walk.h's, one flat index at a time.
#pragma once
#include <bit>

#include "engine/cuda/launch.cuh"
#include "engine/ops/walk.h"

namespace parabola {

// Division by a number that the host knows, as a multiplication (Granlund, Montgomery, "Division by invariant integers
// using multiplication", 1994, figure 4.1): a chip divides 64-bit integers slowly. Exact for n in [0, 2^62).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int64_t d)
      : d_(d), shift_(std::bit_width(static_cast<uint64_t>(d) - 1)), multiplier_(multiplier(d, shift_)) {}
  __device__ int64_t divide(int64_t n) const {
    const auto high =
        static_cast<int64_t>(static_cast<unsigned __int128>(multiplier_) * static_cast<uint64_t>(n) >> 64);
    return (high + n) >> shift_;
  }
  __device__ int64_t value() const { return d_; }

 private:
  // floor(2^64 (2^shift - d) / d) + 1
  static uint64_t multiplier(int64_t d, int shift) {
    const auto excess = (uint64_t{1} << shift) - static_cast<uint64_t>(d);
    return static_cast<uint64_t>((static_cast<unsigned __int128>(excess) << 64) / static_cast<uint64_t>(d)) + 1;
  }
  int64_t d_ = 1;
  int shift_ = 0;
  uint64_t multiplier_ = 1;
};

// A Walk as a kernel's argument.
class DeviceWalk {
 public:
  struct Place {
    int64_t a, b;
  };

  explicit DeviceWalk(const Walk& walk) : elements_(walk.elements()) {
    for (const Walk::Axis& axis : walk.axes())
      axes_[rank_++] = {Divisor(std::max<int64_t>(1, axis.size)), axis.a, axis.b};
  }
  __device__ int64_t elements() const { return elements_; }

  // Where the operands stand at flat index i.
  __device__ Place at(int64_t i) const {
    Place place{0, 0};
    for (int axis = 0; axis < rank_ - 1; ++axis) {
      const int64_t outer = axes_[axis].size.divide(i), index = i - outer * axes_[axis].size.value();
      place.a += index * axes_[axis].a;
      place.b += index * axes_[axis].b;
      i = outer;
    }
    return {place.a + i * axes_[rank_ - 1].a, place.b + i * axes_[rank_ - 1].b};
  }

 private:
  struct Axis {
    Divisor size;
    int64_t a, b;
  };
  Axis axes_[Shape::max_rank];
  int rank_ = 0;
  int64_t elements_;
};

// to[b] = from[a], or += where `accumulate`, for all pairs of a walk; no two of which may share b.
template <class T>
__global__ void copy_along_walk(DeviceWalk walk, const T* from, T* to, bool accumulate) {
  for (int64_t i = thread_index(); i < walk.elements(); i += thread_count()) {
    const auto [a, b] = walk.at(i);
    to[b] = accumulate ? T(Compute<T>(to[b]) + Compute<T>(from[a])) : from[a];
  }
}

template <class T>
void device_copy_along(DeviceStream stream, const Walk& walk, const T* from, T* to, bool accumulate = false) {
  launch(copy_along_walk<T>, blocks_for(walk.elements()), block_size, 0, stream, DeviceWalk(walk), from, to,
         accumulate);
}

template <class T>
__global__ void clear_elements(T* to, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) to[i] = T(0);
}

template <class T>
void device_clear(DeviceStream stream, T* to, int64_t count) {
  launch(clear_elements<T>, blocks_for(count), block_size, 0, stream, to, count);
}

}  // namespace parabola
