// What a .cu file is written with: launching kernels, thread numbers, shared memory. The same source is compiled twice,
// by nvcc for the chip, and by g++ for the emulated grid, on which the tests run every kernel (tests/emulated).
// Therefore there is no <<<>>>, no extern __shared__ and no inline PTX outside of this folder. How to write one:
// README.md beside this file.
#pragma once
#include <cstdint>
#include <tuple>

#include "engine/core/device.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "engine/cuda/emulated.h"
#endif

namespace parabola {

constexpr int warp_size = 32;

#ifdef __CUDACC__
void launch_on_device(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, DeviceStream stream,
                      void** arguments);  // runtime.cu
#endif

// Enqueues `kernel` with `grid` blocks of `block` threads, each block with `shared_bytes` of shared memory (up to 99
// KiB, what every chip since 2020 has). A grid without blocks does nothing. The arguments are converted to the kernel's
// parameter types. Error where the launch is refused, naming kernel and reason; what goes wrong while a kernel runs is
// reported by the next call that waits for the device.
//   launch(relu_forward<T>, blocks_for(n), block_size, 0, args.stream, x, y, n);
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, DeviceStream stream,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel takes another number of arguments");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef __CUDACC__
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {static_cast<void*>(&value)..., nullptr};
        launch_on_device(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, pointers);
      },
      values);
#else
  const auto thread = [&] { kernel(static_cast<Parameters>(arguments)...); };
  emulated::launch(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, thread);
#endif
}

// Sizes that a large chip wants are small on the emulated grid, so that small tensors come to their ends there as well.
#ifdef __CUDACC__
constexpr bool on_emulated_grid = false;
#else
constexpr bool on_emulated_grid = true;
#endif

// The usual block of an elementwise kernel, and how many of them for `count` elements: one thread an element, up to a
// number that fills any chip, beyond which every thread takes several (see thread_index). Since that number differs on
// the emulated grid, nothing but speed may depend on it: no order of a sum.
constexpr int block_size = 256;
constexpr int64_t most_blocks = on_emulated_grid ? 5 : 1 << 15;

inline dim3 blocks_for(int64_t count, int64_t per_block = block_size) {
  const int64_t blocks = (count + per_block - 1) / per_block;
  return dim3(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks));
}

// The bytes that a kernel's parameters may have in all.
#if defined(__CUDACC__) && CUDART_VERSION >= 12010
constexpr int most_parameter_bytes = 32764;
#else
constexpr int most_parameter_bytes = 4096;
#endif

// This thread among all of the grid, and how many there are (x axes only):
//   for (int64_t i = thread_index(); i < count; i += thread_count()) y[i] = ...;
__device__ inline int64_t thread_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline int64_t thread_count() { return int64_t{gridDim.x} * blockDim.x; }

// The block's shared memory, as long as the launch said, as elements of T. Contents are undefined at first. Several
// arrays share it by offsets:  float* sums = shared_memory<float>();  float* tile = sums + warp_size;
template <class T>
__device__ T* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
#else
  return reinterpret_cast<T*>(emulated::shared_memory());
#endif
}

// The type in which values of T are computed with: float for the 16-bit types.
template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeType<T>::type;

}  // namespace parabola
