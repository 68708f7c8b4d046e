// view's backward on CUDA; forward is no work at all.
#include "engine/ops/view.h"

#include "engine/cuda/launch.cuh"

namespace parabola::view_cuda {
namespace {

// dx is dy in [offset, offset + count), and zero elsewhere. Accumulated, it is only touched there.
template <class T>
__global__ void view_backward(const T* dy, T* dx, int64_t offset, int64_t count, int64_t elements, bool accumulate) {
  if (accumulate) {
    for (int64_t i = thread_index(); i < count; i += thread_count())
      dx[offset + i] = T(Compute<T>(dx[offset + i]) + Compute<T>(dy[i]));
  } else {
    for (int64_t i = thread_index(); i < elements; i += thread_count())
      dx[i] = i >= offset && i < offset + count ? dy[i - offset] : T(0);
  }
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "view", [&]<class T>() {
    const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
    const int64_t count = dy.shape.elements(), elements = dx.shape.elements();
    launch(view_backward<T>, blocks_for(args.accumulates(0) ? count : elements), block_size, 0, args.stream,
           dy.data<T>(), dx.data<T>(), args.attributes.get<ViewAttributes>().offset, count, elements,
           args.accumulates(0));
  });
}

const CudaKernels registered(view_op, {.kernels = {nullptr, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::view_cuda
