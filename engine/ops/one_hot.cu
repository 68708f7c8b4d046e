// one_hot on CUDA; what it computes is said in one_hot.h.
#include "engine/ops/one_hot.h"

#include <limits>

#include "engine/ops/column_grid.cuh"

namespace parabola::one_hot_cuda {
namespace {

template <class T>
__global__ void one_hot_forward(const int32_t* labels, T* y, int64_t rows, int64_t classes) {
  const int64_t c = thread_index();
  if (c >= classes) return;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t label = labels[row];
    const bool is_class = label >= 0 && label < classes;
    y[row * classes + c] = T(!is_class ? std::numeric_limits<Compute<T>>::quiet_NaN() : Compute<T>(c == label));
  }
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.outputs[0].dtype, "one_hot", [&]<class T>() {
    const int64_t rows = args.inputs[0].shape.elements(), classes = args.outputs[0].shape.back();
    launch_on_columns(one_hot_forward<T>, args.stream, rows, classes, args.inputs[0].data<int32_t>(),
                      args.outputs[0].data<T>(), rows, classes);
  });
}

const CudaKernels registered(one_hot_op, {.kernels = {forward}});

}  // namespace
}  // namespace parabola::one_hot_cuda
