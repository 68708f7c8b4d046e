// relu on CUDA; what it computes is said in relu.h.
#include "engine/cuda/launch.cuh"
#include "engine/ops/relu.h"

namespace parabola::relu_cuda {
namespace {

template <class T>
__global__ void relu_forward(const T* x, T* y, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) y[i] = x[i] > T(0) ? x[i] : T(0);
}

template <class T>
__global__ void relu_backward(const T* y, const T* dy, T* dx, bool accumulate, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> d = y[i] > T(0) ? dy[i] : T(0);
    dx[i] = T(accumulate ? dx[i] + d : d);
  }
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "relu", [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    launch(relu_forward<T>, blocks_for(count), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.outputs[0].data<T>(), count);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.outputs[0].dtype, "relu", [&]<class T>() {
    const int64_t count = args.outputs[0].shape.elements();
    launch(relu_backward<T>, blocks_for(count), block_size, 0, args.stream, args.outputs[0].data<T>(),
           args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0), count);
  });
}

const CudaKernels registered(relu_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::relu_cuda
