// cross_entropy on CUDA: a warp to a row. The formulas are in cross_entropy.cc.
#include "engine/ops/cross_entropy.h"

#include <limits>

#include "engine/cuda/warp.cuh"

namespace parabola {
namespace {

// maxima and log_sums: one for each row, of its logits and of exp(logit - maximum).
template <class T>
__global__ void cross_entropy_rows(const T* logits, T* maxima, T* log_sums, int64_t rows, int64_t classes) {
  for (int64_t row = thread_index() / warp_size; row < rows; row += thread_count() / warp_size) {
    const T* in = logits + row * classes;
    T largest = in[0], sum = 0;
    for (int64_t k = lane_index(); k < classes; k += warp_size) largest = Max()(in[k], largest);
    largest = warp_reduce(largest, Max());
    for (int64_t k = lane_index(); k < classes; k += warp_size) sum += std::exp(in[k] - largest);
    sum = warp_reduce(sum, Sum());
    if (lane_index() == 0) maxima[row] = largest, log_sums[row] = std::log(sum);
  }
}

// Whether a label is one: nobody on the host has looked. Of one that is not, loss and gradients become NaN.
__device__ bool is_class(int64_t label, int64_t classes) { return label >= 0 && label < classes; }

// The mean over all rows, by one block.
template <class T>
__global__ void cross_entropy_mean(const T* logits, const int32_t* labels, const T* maxima, const T* log_sums, T* loss,
                                   int64_t rows, int64_t classes) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) {
    const int64_t label = labels[row];
    const T z = is_class(label, classes) ? logits[row * classes + label] : std::numeric_limits<T>::quiet_NaN();
    sum += log_sums[row] - (z - maxima[row]);
  }
  sum = block_reduce(sum, Sum(), shared_memory<double>());
  if (threadIdx.x == 0) *loss = static_cast<T>(sum / static_cast<double>(rows));
}

template <class T>
__global__ void cross_entropy_backward(const T* logits, const int32_t* labels, const T* maxima, const T* log_sums,
                                       const T* dloss, T* dlogits, bool accumulate, int64_t rows, int64_t classes) {
  for (int64_t row = thread_index() / warp_size; row < rows; row += thread_count() / warp_size) {
    const T *in = logits + row * classes, largest = maxima[row], log_sum = log_sums[row];
    T* out = dlogits + row * classes;
    const int64_t label = labels[row];
    const T scale = is_class(label, classes) ? *dloss / static_cast<T>(rows) : std::numeric_limits<T>::quiet_NaN();
    for (int64_t k = lane_index(); k < classes; k += warp_size) {
      const T probability = std::exp(in[k] - largest - log_sum), d = scale * (probability - (k == label ? 1 : 0));
      out[k] = accumulate ? out[k] + d : d;
    }
  }
}

template <class T>
void forward(const ForwardArgs& args) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  const T* logits = args.inputs[0].data<T>();
  T *maxima = args.auxiliary[0].data<T>(), *log_sums = args.auxiliary[1].data<T>();
  launch(cross_entropy_rows<T>, blocks_for(rows, block_size / warp_size), block_size, 0, args.stream, logits, maxima,
         log_sums, rows, classes);
  launch(cross_entropy_mean<T>, 1, block_size, block_size / warp_size * sizeof(double), args.stream, logits,
         args.inputs[1].data<int32_t>(), maxima, log_sums, args.outputs[0].data<T>(), rows, classes);
}

template <class T>
void backward(const BackwardArgs& args) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  launch(cross_entropy_backward<T>, blocks_for(rows, block_size / warp_size), block_size, 0, args.stream,
         args.inputs[0].data<T>(), args.inputs[1].data<int32_t>(), args.auxiliary[0].data<T>(),
         args.auxiliary[1].data<T>(), args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(),
         args.accumulates(0), rows, classes);
}

const CudaKernels registered(cross_entropy_op, {.kernels = {[](const ForwardArgs& a) {
                                                              dispatch_float(a.inputs[0].dtype, "cross_entropy",
                                                                             [&]<class T>() { forward<T>(a); });
                                                            },
                                                            [](const BackwardArgs& a) {
                                                              dispatch_float(a.inputs[0].dtype, "cross_entropy",
                                                                             [&]<class T>() { backward<T>(a); });
                                                            }}});

}  // namespace
}  // namespace parabola
