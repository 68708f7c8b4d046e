// The harness's own ops on CUDA: one block, since they are small.
#include "engine/cuda/warp.cuh"
#include "tests/ops/run_case.h"

namespace parabola::test {
namespace {

template <class T>
__global__ void test_projection(const T* y, const T* weights, T* loss, int64_t count) {
  Compute<T> sum = 0;
  for (int64_t i = thread_index(); i < count; i += thread_count())
    sum += static_cast<Compute<T>>(y[i]) * static_cast<Compute<T>>(weights[i]);
  sum = block_reduce(sum, Sum(), shared_memory<Compute<T>>());
  if (threadIdx.x == 0) *loss = T(sum);
}

template <class T>
__global__ void test_projection_gradient(const T* dloss, const T* weights, T* dy, bool accumulate, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> d = static_cast<Compute<T>>(*dloss) * static_cast<Compute<T>>(weights[i]);
    dy[i] = T(accumulate ? dy[i] + d : d);
  }
}

template <class T>
__global__ void test_add(const T* from, T* to, bool accumulate) {
  *to = T(accumulate ? Compute<T>(*to) + Compute<T>(*from) : Compute<T>(*from));
}

void project(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "test_projection", [&]<class T>() {
    launch(test_projection<T>, 1, block_size, block_size / warp_size * sizeof(Compute<T>), args.stream,
           args.inputs[0].data<T>(), args.inputs[1].data<T>(), args.outputs[0].data<T>(),
           args.inputs[0].shape.elements());
  });
}

void project_back(const BackwardArgs& args) {
  dispatch_any_float(args.inputs[1].dtype, "test_projection", [&]<class T>() {
    const int64_t count = args.inputs[1].shape.elements();
    launch(test_projection_gradient<T>, blocks_for(count), block_size, 0, args.stream,
           args.output_gradients[0].data<T>(), args.inputs[1].data<T>(), args.input_gradients[0].data<T>(),
           args.accumulates(0), count);
  });
}

void sum_losses(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "test_sum_losses", [&]<class T>() {
    for (size_t i = 0; i < args.inputs.size(); ++i)
      launch(test_add<T>, 1, 1, 0, args.stream, args.inputs[i].data<T>(), args.outputs[0].data<T>(), i > 0);
  });
}

void sum_losses_back(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "test_sum_losses", [&]<class T>() {
    for (const TensorView& gradient : args.input_gradients)
      if (gradient)
        launch(test_add<T>, 1, 1, 0, args.stream, args.output_gradients[0].data<T>(), gradient.data<T>(), false);
  });
}

const CudaKernels projection(projection_op, {.kernels = {project, project_back}});
const CudaKernels sums(sum_losses_op, {.kernels = {sum_losses, sum_losses_back}});

}  // namespace
}  // namespace parabola::test
