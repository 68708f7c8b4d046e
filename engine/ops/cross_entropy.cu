// cross_entropy on CUDA: a warp to a row. The formulas are in cross_entropy.cc.
#include "engine/ops/cross_entropy.h"

#include "engine/ops/class_targets.h"
#include "engine/ops/rows.cuh"

namespace parabola::cross_entropy_cuda {
namespace {

// maxima, log_sums, losses: one for each row; log_sums of exp(logit - maximum).
template <class T, class Targets>
__global__ void cross_entropy_rows(const T* logits, Targets targets, T* maxima, T* log_sums, T* losses, int64_t rows,
                                   int64_t classes) {
  const auto sum = [=](auto term) { return row_sum<T>(classes, term); };
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T* in = logits + row * classes;
    T largest = in[0];
    for (int64_t k = lane_index(); k < classes; k += warp_size) largest = Max()(in[k], largest);
    largest = warp_reduce(largest, Max());
    const T log_sum = std::log(sum([=](int64_t k) { return std::exp(in[k] - largest); }));
    const T weighted = sum([=](int64_t k) {
      const T t = targets.at(row, k);
      return t == 0 ? T(0) : t * (in[k] - largest);
    });
    const T loss = targets.total(row, sum) * log_sum - weighted;
    if (lane_index() == 0) maxima[row] = largest, log_sums[row] = log_sum, losses[row] = loss;
  }
}

// The mean over all rows, by one block.
template <class T>
__global__ void cross_entropy_mean(const T* losses, T* loss, int64_t rows) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) sum += losses[row];
  sum = block_reduce(sum, Sum(), shared_memory<double>());
  if (threadIdx.x == 0) *loss = static_cast<T>(sum / static_cast<double>(rows));
}

// A gradient that is not wanted is null.
template <class T, class Targets>
__global__ void cross_entropy_backward(const T* logits, Targets targets, const T* maxima, const T* log_sums,
                                       const T* dloss, T* dlogits, bool accumulate, T* dtargets,
                                       bool accumulate_targets, int64_t rows, int64_t classes) {
  const auto sum = [=](auto term) { return row_sum<T>(classes, term); };
  const T scale = *dloss / static_cast<T>(rows);
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T* in = logits + row * classes;
    const T total = dlogits ? targets.total(row, sum) : T(0);
    for (int64_t k = lane_index(); k < classes; k += warp_size) {
      const T log_probability = in[k] - maxima[row] - log_sums[row];
      const int64_t i = row * classes + k;
      if (dlogits) {
        const T d = scale * (std::exp(log_probability) * total - targets.at(row, k));
        dlogits[i] = accumulate ? dlogits[i] + d : d;
      }
      if (dtargets) {
        const T d = -scale * targets.kept * log_probability;
        dtargets[i] = accumulate_targets ? dtargets[i] + d : d;
      }
    }
  }
}

template <class T, class Targets>
void forward(const ForwardArgs& args, const Targets& targets) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  T* losses = reinterpret_cast<T*>(args.workspace);
  launch(cross_entropy_rows<T, Targets>, blocks_for_rows(rows), block_size, 0, args.stream, args.inputs[0].data<T>(),
         targets, args.auxiliary[0].data<T>(), args.auxiliary[1].data<T>(), losses, rows, classes);
  launch(cross_entropy_mean<T>, 1, block_size, block_size / warp_size * sizeof(double), args.stream, losses,
         args.outputs[0].data<T>(), rows);
}

template <class T, class Targets>
void backward(const BackwardArgs& args, const Targets& targets) {
  const int64_t rows = args.inputs[0].shape[0], classes = args.inputs[0].shape[1];
  launch(cross_entropy_backward<T, Targets>, blocks_for_rows(rows), block_size, 0, args.stream,
         args.inputs[0].data<T>(), targets, args.auxiliary[0].data<T>(), args.auxiliary[1].data<T>(),
         args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0),
         args.input_gradients[1].data<T>(), args.accumulates(1), rows, classes);
}

const CudaKernels registered(cross_entropy_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() {
                                              with_targets<T>(a.attributes, a.inputs[0], a.inputs[1],
                                                              [&](auto targets) { forward<T>(a, targets); });
                                            });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "cross_entropy", [&]<class T>() {
                                              with_targets<T>(a.attributes, a.inputs[0], a.inputs[1],
                                                              [&](auto targets) { backward<T>(a, targets); });
                                            });
                                          }},
                              .forward_workspace = [](const Signature& s) {
                                return static_cast<size_t>(s.shape(0)[0]) * size_of(s.dtype());
                              }});

}  // namespace
}  // namespace parabola::cross_entropy_cuda
