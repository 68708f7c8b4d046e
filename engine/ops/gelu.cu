// gelu on CUDA; what it computes is said in gelu.h.
#include "engine/ops/gelu.h"

#include "engine/ops/normal_distribution.cuh"

namespace parabola::gelu_cuda {
namespace {

template <class T>
__global__ void gelu_forward(const T* x, T* y, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> value = x[i];
    y[i] = T(value * normal_distribution(value));
  }
}

template <class T>
__global__ void gelu_backward(const T* x, const T* dy, T* dx, bool accumulate, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> value = x[i], d = dy[i] * std::fma(value, normal_density(value), normal_distribution(value));
    dx[i] = T(accumulate ? dx[i] + d : d);
  }
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "gelu", [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    launch(gelu_forward<T>, blocks_for(count), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.outputs[0].data<T>(), count);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "gelu", [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    launch(gelu_backward<T>, blocks_for(count), block_size, 0, args.stream, args.inputs[0].data<T>(),
           args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0), count);
  });
}

const CudaKernels registered(gelu_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::gelu_cuda
