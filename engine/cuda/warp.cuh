// Threads that work together. A warp is 32 neighbouring threads of a block (its lanes), which exchange values without
// memory. All lanes of a warp must make these calls together, and all threads of a block its reductions: no thread
// returns early, blocks are one-dimensional multiples of 32. The order of every sum follows from the block's size
// alone.
#pragma once
#include "engine/cuda/launch.cuh"

namespace parabola {

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % warp_size; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / warp_size; }
__device__ inline int warps_in_block() { return static_cast<int>(blockDim.x) / warp_size; }

#ifdef __CUDACC__

constexpr unsigned all_lanes = 0xffffffffu;

// The value that lane `lane` has.
template <class T>
__device__ T shuffle(T value, int lane) {
  return __shfl_sync(all_lanes, value, lane);
}
// The value of the lane whose number differs in the bits of `mask`.
template <class T>
__device__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(all_lanes, value, mask);
}
// The value of the lane `distance` further on (lower for shuffle_up); a lane's own where there is none.
template <class T>
__device__ T shuffle_down(T value, int distance) {
  return __shfl_down_sync(all_lanes, value, static_cast<unsigned>(distance));
}
template <class T>
__device__ T shuffle_up(T value, int distance) {
  return __shfl_up_sync(all_lanes, value, static_cast<unsigned>(distance));
}
// Bit i: what lane i says.
__device__ inline unsigned ballot(bool vote) { return __ballot_sync(all_lanes, vote); }

#else  // the same for g++

template <class T>
T shuffle(T value, int lane) {
  return emulated::from_lane(value, lane % warp_size);
}
template <class T>
T shuffle_xor(T value, int mask) {
  return emulated::from_lane(value, lane_index() ^ mask);
}
template <class T>
T shuffle_down(T value, int distance) {
  const int from = lane_index() + distance;
  return emulated::from_lane(value, from < warp_size ? from : lane_index());
}
template <class T>
T shuffle_up(T value, int distance) {
  const int from = lane_index() - distance;
  return emulated::from_lane(value, from >= 0 ? from : lane_index());
}
inline unsigned ballot(bool vote) {
  unsigned votes = 0;
  const unsigned mine = vote;
  const std::byte* all = emulated::warp_exchange(&mine, sizeof mine, std::source_location::current());
  for (int lane = 0; lane < warp_size; ++lane) {
    unsigned one = 0;
    std::memcpy(&one, all + 8 * lane, sizeof one);
    votes |= one << lane;
  }
  return votes;
}

#endif

__device__ inline bool any_lane(bool vote) { return ballot(vote) != 0; }
__device__ inline bool every_lane(bool vote) { return ballot(vote) == 0xffffffffu; }

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// The values of all lanes combined by a tree of depth 5; every lane gets the result, and all the same bits, since
// `combine` is commutative.
template <class T, class Combine>
__device__ T warp_reduce(T value, Combine combine) {
  for (int mask = warp_size / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

// The values of all threads of the block: a tree in each warp, then the warps in their order. Every thread gets the
// result. scratch: shared memory for as many T as the block has warps; free again when this returns.
template <class T, class Combine>
__device__ T block_reduce(T value, Combine combine, T* scratch) {
  value = warp_reduce(value, combine);
  if (lane_index() == 0) scratch[warp_index()] = value;
  __syncthreads();
  value = scratch[0];
  for (int warp = 1; warp < warps_in_block(); ++warp) value = combine(value, scratch[warp]);
  __syncthreads();
  return value;
}

}  // namespace parabola
