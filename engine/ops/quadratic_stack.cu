#include "engine/ops/quadratic_stack.cuh"

#include "engine/cuda/launch.cuh"

namespace parabola {
namespace {

// Of each kernel; a struct, so that a launch copies it to the device.
template <class T>
struct Pointers {
  T* data[most_stacked];
  bool accumulate[most_stacked];
};

// Which kernel a stacked row comes from, and which of its rows it is.
struct RowOrigin {
  int64_t kernel, row;
  __device__ RowOrigin(const KernelStack& stack, int64_t stacked_row) {
    const int64_t outputs = stack.K / stack.groups, rank = stacked_row / outputs % stack.J;
    const int64_t group = stacked_row / outputs / stack.J / stack.count;
    kernel = stacked_row / outputs / stack.J % stack.count;
    row = rank * stack.K + group * outputs + stacked_row % outputs;
  }
};

// A block takes a row, one output's weights.
template <class T>
__global__ void stack_rows(KernelStack stack, Pointers<const T> kernels, T* stacked) {
  for (int64_t row = blockIdx.x; row < stack.count * stack.J * stack.K; row += gridDim.x) {
    const RowOrigin origin(stack, row);
    const T* from = kernels.data[origin.kernel] + origin.row * stack.depth;
    for (int64_t i = threadIdx.x; i < stack.depth; i += blockDim.x) stacked[row * stack.depth + i] = from[i];
  }
}

template <class T>
__global__ void unstack_rows(KernelStack stack, const T* stacked, Pointers<T> gradients) {
  for (int64_t row = blockIdx.x; row < stack.count * stack.J * stack.K; row += gridDim.x) {
    const RowOrigin origin(stack, row);
    if (!gradients.data[origin.kernel]) continue;
    T* to = gradients.data[origin.kernel] + origin.row * stack.depth;
    const bool add = gradients.accumulate[origin.kernel];
    for (int64_t i = threadIdx.x; i < stack.depth; i += blockDim.x) {
      const T d = stacked[row * stack.depth + i];
      to[i] = add ? to[i] + d : d;
    }
  }
}

}  // namespace

template <class T>
void device_stack(DeviceStream stream, const KernelStack& stack, const T* const (&kernels)[most_stacked], T* stacked) {
  launch(stack_rows<T>, blocks_for(stack.rows(), 1), block_size, 0, stream, stack,
         Pointers<const T>{{kernels[0], kernels[1], kernels[2]}, {}}, stacked);
}

template <class T>
void device_unstack(DeviceStream stream, const KernelStack& stack, const T* stacked,
                    T* const (&gradients)[most_stacked], const bool (&accumulate)[most_stacked]) {
  launch(unstack_rows<T>, blocks_for(stack.rows(), 1), block_size, 0, stream, stack, stacked,
         Pointers<T>{{gradients[0], gradients[1], gradients[2]}, {accumulate[0], accumulate[1], accumulate[2]}});
}

#define PARABOLA_STACK(T)                                                                             \
  template void device_stack(DeviceStream, const KernelStack&, const T* const(&)[most_stacked], T*);  \
  template void device_unstack(DeviceStream, const KernelStack&, const T*, T* const(&)[most_stacked], \
                               const bool(&)[most_stacked]);
PARABOLA_STACK(float)
PARABOLA_STACK(double)

}  // namespace parabola
