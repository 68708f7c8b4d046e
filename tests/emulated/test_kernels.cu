#include "tests/emulated/test_kernels.h"

#include "engine/cuda/warp.cuh"

namespace parabola::test {
namespace {

__global__ void test_tree_sum(const float* x, float* sums, Mistake mistake) {
  float* shared = shared_memory<float>();
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  if (mistake == Mistake::early_return && thread == 5) return;
  const int64_t shift = mistake == Mistake::past_the_end ? 1 : 0;
  shared[thread] = x[thread_index() + shift];
  if (mistake == Mistake::past_shared_memory && thread == 0) shared[threads] = 0;
  for (int width = threads / 2; width > 0; width /= 2) {
    if (mistake != Mistake::no_barrier) __syncthreads();
    if (thread < width) shared[thread] += shared[thread + width];
    if (mistake == Mistake::two_barriers) {
      if (thread % 2 == 0)
        __syncthreads();
      else
        __syncthreads();
    }
    if (mistake == Mistake::one_lane && thread == 7) __syncwarp();
  }
  if (thread == 0) sums[blockIdx.x] = shared[0];
}

__global__ void test_warp_functions(const double* x, double* out) {
  const double value = x[thread_index()];
  double* mine = out + warp_results * thread_index();
  mine[0] = shuffle(value, 3);
  mine[1] = shuffle_xor(value, 5);
  mine[2] = shuffle_down(value, 9);
  mine[3] = shuffle_up(value, 9);
  mine[4] = ballot(value > 0);
  mine[5] = any_lane(value > 30);
  mine[6] = every_lane(value > -1e9);
  mine[7] = every_lane(value > 0);
  mine[8] = warp_reduce(value, Sum());
  mine[9] = warp_reduce(value, Max());
  mine[10] = block_reduce(value, Sum(), shared_memory<double>());
  mine[11] = block_reduce(static_cast<float>(value), Max(), shared_memory<float>());
}

__global__ void test_number_threads(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned number = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[number] = static_cast<int>(number) + 1;
}

__global__ void test_first_shared(float* out) { out[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }

__global__ void test_many_barriers(float* out, int rounds) {
  float* shared = shared_memory<float>();
  float sum = 0;
  for (int round = 0; round < rounds; ++round) {
    shared[threadIdx.x] = static_cast<float>(round);
    __syncthreads();
    sum += shared[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
  }
  out[thread_index()] = sum;
}

template <class T>
__global__ void test_twice(const T* x, T* y, bool accumulate, int64_t shift, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const T twice = T(2) * x[(i + shift) % count];
    y[i] = accumulate ? y[i] + twice : twice;
  }
}

__global__ void test_read_step(const StepRecord* step, double* out) {
  out[0] = static_cast<double>(step->seed);
  out[1] = static_cast<double>(step->step);
  out[2] = step->learning_rate;
  out[3] = static_cast<double>(step->update);
}

template <bool wrong>
void twice(const ForwardArgs& args) {
  dispatch_float(args.inputs[0].dtype, "test_twice", [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    launch(test_twice<T>, blocks_for(count), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.outputs[0].data<T>(), false, wrong, count);
  });
}

template <bool wrong>
void twice_back(const BackwardArgs& args) {
  dispatch_float(args.output_gradients[0].dtype, "test_twice", [&]<class T>() {
    const int64_t count = args.output_gradients[0].shape.elements();
    launch(test_twice<T>, blocks_for(count), block_size, 0, args.stream, args.output_gradients[0].data<T>(),
           args.input_gradients[0].data<T>(), args.accumulates(0), wrong, count);
  });
}

void read_step(const ForwardArgs& args) {
  launch(test_read_step, 1, 1, 0, args.stream, args.step, args.outputs[0].data<double>());
}

const CudaKernels wrong_forward(wrong_forward_op, {.kernels = {twice<true>, twice_back<false>}});
const CudaKernels wrong_backward(wrong_backward_op, {.kernels = {twice<false>, twice_back<true>}});
const CudaKernels steps(read_step_op, {.kernels = {read_step, nullptr}});

}  // namespace

void tree_sum(DeviceStream stream, const float* x, float* sums, int blocks, int threads, Mistake mistake) {
  launch(test_tree_sum, blocks, threads, static_cast<size_t>(threads) * sizeof(float), stream, x, sums, mistake);
}

void warp_functions(DeviceStream stream, const double* x, double* out, int threads) {
  launch(test_warp_functions, 1, threads, warp_size * sizeof(double), stream, x, out);
}

void number_threads(DeviceStream stream, int* out, int blocks[3], int threads[3]) {
  launch(test_number_threads, dim3(blocks[0], blocks[1], blocks[2]), dim3(threads[0], threads[1], threads[2]), 0,
         stream, out);
}

void first_shared(DeviceStream stream, float* out) {
  launch(test_first_shared, 1, 32, 32 * sizeof(float), stream, out);
}

void many_barriers(DeviceStream stream, float* out, int rounds) {
  launch(test_many_barriers, 2, 1024, 1024 * sizeof(float), stream, out, rounds);
}

}  // namespace parabola::test
