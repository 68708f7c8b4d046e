// sum and mean on CUDA; what they compute is said in reduce.h.
#include "engine/ops/reduce.h"

#include "engine/ops/reduction.cuh"

namespace parabola::reduce_cuda {
namespace {

template <class T>
struct Values {
  const T* x;
  __device__ Compute<T> operator()(int64_t i) const { return x[i]; }
};

template <class T>
struct ScaledResult {
  T* y;
  double scale;
  __device__ void set(int64_t i, double sum) const { y[i] = T(static_cast<Compute<T>>(scale * sum)); }
};

// dx is dy, repeated.
template <class T>
__global__ void reduce_backward(DeviceWalk walk, const T* dy, T* dx, Compute<T> scale, bool accumulate) {
  for (int64_t i = thread_index(); i < walk.elements(); i += thread_count()) {
    const Compute<T> d = scale * dy[walk.at(i).a];
    dx[i] = T(accumulate ? dx[i] + d : d);
  }
}

// The result's shape with the axes kept, as size 1.
Shape kept_shape(const Shape& x, const Attributes& attributes) {
  return reduced_shape(x, attributes.get<ReduceAttributes>().axes, true);
}

// What a sum is multiplied by.
template <bool is_mean>
double scale_of(const Shape& x, const Shape& y) {
  return is_mean ? static_cast<double>(y.elements()) / static_cast<double>(x.elements()) : 1;
}

template <bool is_mean>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, is_mean ? "mean" : "sum", [&]<class T>() {
    const Shape &x = args.inputs[0].shape, y = kept_shape(x, args.attributes);
    const ScaledResult<T> result{args.outputs[0].data<T>(), scale_of<is_mean>(x, y)};
    DeviceReduction(x, y).run<T>(args.stream, args.workspace, Values<T>{args.inputs[0].data<T>()}, result);
  });
}

template <bool is_mean>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, is_mean ? "mean" : "sum", [&]<class T>() {
    const Shape &x = args.input_gradients[0].shape, y = kept_shape(x, args.attributes);
    const Walk walk(x, broadcast_strides(y, x), strides_of(x));
    launch(reduce_backward<T>, blocks_for(x.elements()), block_size, 0, args.stream, DeviceWalk(walk),
           args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(),
           static_cast<Compute<T>>(scale_of<is_mean>(x, y)), args.accumulates(0));
  });
}

template <bool is_mean>
CudaKernels::Entry entry() {
  return {.kernels = {forward<is_mean>, backward<is_mean>},
          .forward_workspace =
              [](const Signature& s) {
                return DeviceReduction(s.shape(0), kept_shape(s.shape(0), s.attributes)).workspace(s.dtype());
              },
          .half_types = true};
}

const CudaKernels sum(sum_op, entry<false>()), mean(mean_op, entry<true>());

}  // namespace
}  // namespace parabola::reduce_cuda
