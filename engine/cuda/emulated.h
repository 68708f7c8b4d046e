// What stands for CUDA's own names where g++ compiles a .cu file: the emulated grid, a test tool
// (tests/emulated/grid.cc). Blocks run one after the other, the threads of one as fibres that take turns wherever they
// wait for each other.
#pragma once
#include <cstddef>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "engine/core/device.h"

// The tag becomes a part of a kernel's name in the program, by which the tests find all kernels.
#define __global__ __attribute__((abi_tag("kernel")))
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline uint3 threadIdx, blockIdx;  // of the thread that runs now
inline dim3 blockDim, gridDim;

namespace parabola::emulated {

// A reference to what one thread runs.
class ThreadBody {
 public:
  template <class F>
  ThreadBody(const F& f) : object_(&f), call_([](const void* o) { (*static_cast<const F*>(o))(); }) {}
  void operator()() const { call_(object_); }

 private:
  const void* object_;
  void (*call_)(const void*);
};

// Runs a grid to its end. Error, naming kernel, block and threads, for sizes that no chip takes, and where threads wait
// at different places, or for one that has ended.
void launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, DeviceStream stream, ThreadBody thread);
std::byte* shared_memory();

void block_barrier(const std::source_location& where);
void warp_barrier(const std::source_location& where);
// Waits until all 32 lanes of the warp have come with `size` bytes (8 at most) each. Returns lane 0's; lane i's are 8 i
// bytes further on. They stay until the warp's next barrier but one.
const std::byte* warp_exchange(const void* value, size_t size, const std::source_location& where);

template <class T>
T from_lane(T value, int lane, const std::source_location& where = std::source_location::current()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  T result;
  std::memcpy(&result, warp_exchange(&value, sizeof value, where) + 8 * lane, sizeof result);
  return result;
}

}  // namespace parabola::emulated

inline void __syncthreads(const std::source_location& where = std::source_location::current()) {
  parabola::emulated::block_barrier(where);
}
inline void __syncwarp(const std::source_location& where = std::source_location::current()) {
  parabola::emulated::warp_barrier(where);
}
