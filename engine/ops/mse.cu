// mse on CUDA; what it computes is said in mse.h.
#include "engine/ops/mse.h"

#include "engine/ops/reduction.cuh"

namespace parabola::mse_cuda {
namespace {

template <class T>
struct SquaredDifference {
  const T *a, *b;
  __device__ Compute<T> operator()(int64_t i) const {
    const Compute<T> difference = Compute<T>(a[i]) - Compute<T>(b[i]);
    return difference * difference;
  }
};

template <class T>
struct MeanResult {
  T* loss;
  double count;
  __device__ void set(int64_t, double sum) const { *loss = T(static_cast<Compute<T>>(sum / count)); }
};

// factor: 2 / n, or -2 / n for the second tensor.
template <class T>
__global__ void mse_backward(const T* a, const T* b, const T* dloss, Compute<T> factor, T* d, bool accumulate,
                             int64_t count) {
  const Compute<T> scale = factor * Compute<T>(*dloss);
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> value = scale * (Compute<T>(a[i]) - Compute<T>(b[i]));
    d[i] = T(accumulate ? d[i] + value : value);
  }
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "mse", [&]<class T>() {
    const Shape& shape = args.inputs[0].shape;
    const MeanResult<T> result{args.outputs[0].data<T>(), static_cast<double>(shape.elements())};
    const SquaredDifference<T> term{args.inputs[0].data<T>(), args.inputs[1].data<T>()};
    DeviceReduction(shape, Shape{}).run<T>(args.stream, args.workspace, term, result);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "mse", [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    for (const int operand : {0, 1}) {
      if (!args.wants(operand)) continue;
      const double factor = (operand == 0 ? 2 : -2) / static_cast<double>(count);
      launch(mse_backward<T>, blocks_for(count), block_size, 0, args.stream, args.inputs[0].data<T>(),
             args.inputs[1].data<T>(), args.output_gradients[0].data<T>(), static_cast<Compute<T>>(factor),
             args.input_gradients[operand].data<T>(), args.accumulates(operand), count);
    }
  });
}

const CudaKernels registered(mse_op, {.kernels = {forward, backward},
                                      .forward_workspace =
                                          [](const Signature& s) {
                                            return DeviceReduction(s.shape(0), Shape{}).workspace(s.dtype());
                                          },
                                      .half_types = true});

}  // namespace
}  // namespace parabola::mse_cuda
