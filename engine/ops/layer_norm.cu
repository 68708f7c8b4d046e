// layer_norm on CUDA: a warp to a row. The formulas are in layer_norm.cc.
#include "engine/ops/layer_norm.h"

#include "engine/ops/norm_gradients.cuh"
#include "engine/ops/rows.cuh"

namespace parabola::layer_norm_cuda {
namespace {

template <class T>
__global__ void layer_norm_forward(const T* x, const T* gamma, const T* beta, T* y, T* means, T* rstds, double eps,
                                   bool statistics_ready, int64_t rows, int64_t channels) {
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T* in = x + row * channels;
    T mean, rstd;
    if (statistics_ready) {
      mean = means[row];
      rstd = rstds[row];
    } else {
      const T n = static_cast<T>(channels), rough = row_sum<T>(channels, [=](int64_t c) { return in[c]; }) / n;
      // What is rough in the first mean comes out as the deviations' own mean.
      const T off = row_sum<T>(channels, [=](int64_t c) { return in[c] - rough; }) / n;
      const T squares = row_sum<T>(channels, [=](int64_t c) { return (in[c] - rough) * (in[c] - rough); }) / n;
      const T variance = squares - off * off;
      mean = rough + off;
      rstd = static_cast<T>(1 / std::sqrt((variance > 0 ? variance : 0) + eps));
      if (lane_index() == 0) means[row] = mean, rstds[row] = rstd;
    }
    for (int64_t c = lane_index(); c < channels; c += warp_size)
      y[row * channels + c] = std::fma((in[c] - mean) * rstd, gamma[c], beta[c]);
  }
}

template <class T>
__global__ void layer_norm_backward(const T* x, const T* gamma, const T* dy, const T* means, const T* rstds, T* dx,
                                    bool accumulate, int64_t rows, int64_t channels) {
  for (int64_t row = first_row(); row < rows; row += row_step()) {
    const T *in = x + row * channels, *g = dy + row * channels, mean = means[row], rstd = rstds[row];
    const T n = static_cast<T>(channels), sum = row_sum<T>(channels, [=](int64_t c) { return gamma[c] * g[c]; }) / n;
    const T dot = row_sum<T>(channels, [=](int64_t c) { return gamma[c] * g[c] * ((in[c] - mean) * rstd); }) / n;
    T* out = dx + row * channels;
    for (int64_t c = lane_index(); c < channels; c += warp_size) {
      const T d = rstd * (gamma[c] * g[c] - sum - (in[c] - mean) * rstd * dot);
      out[c] = accumulate ? out[c] + d : d;
    }
  }
}

ColumnParts matrix_of(const Shape& x) { return {x.product(0, x.rank() - 1), x.back()}; }

template <class T>
void forward(const ForwardArgs& args) {
  const auto [rows, channels] = matrix_of(args.inputs[0].shape);
  launch(layer_norm_forward<T>, blocks_for_rows(rows), block_size, 0, args.stream, args.inputs[0].data<T>(),
         args.inputs[1].data<T>(), args.inputs[2].data<T>(), args.outputs[0].data<T>(), args.auxiliary[0].data<T>(),
         args.auxiliary[1].data<T>(), args.attributes.get<LayerNormAttributes>().eps, args.auxiliary_ready, rows,
         channels);
}

template <class T>
void backward(const BackwardArgs& args) {
  const ColumnParts matrix = matrix_of(args.output_gradients[0].shape);
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>(), *means = args.auxiliary[0].data<T>(),
          *rstds = args.auxiliary[1].data<T>();
  if (args.wants(0))
    launch(layer_norm_backward<T>, blocks_for_rows(matrix.rows), block_size, 0, args.stream, x,
           args.inputs[1].data<T>(), dy, means, rstds, args.input_gradients[0].data<T>(), args.accumulates(0),
           matrix.rows, matrix.columns);
  if (!args.wants(1) && !args.wants(2)) return;
  const NormTerms<T, true> terms{args.wants(1) ? x : nullptr, {dy}, means, rstds, matrix.columns};
  const NormGradients<T> gradients{{args.input_gradients[2].data<T>(), args.input_gradients[1].data<T>()},
                                   {args.accumulates(2), args.accumulates(1)},
                                   matrix.columns};
  device_column_sums<2, T>(args.stream, matrix, args.workspace, terms, gradients);
}

size_t backward_workspace(const Signature& s) {
  if (!s.wants_gradient(1) && !s.wants_gradient(2)) return 0;
  const ColumnParts matrix = matrix_of(s.shape(0));
  return s.dtype() == DType::f64 ? matrix.workspace<double>(2) : matrix.workspace<float>(2);
}

const CudaKernels registered(layer_norm_op, {.kernels = {[](const ForwardArgs& a) {
                                                           dispatch_float(a.inputs[0].dtype, "layer_norm",
                                                                          [&]<class T>() { forward<T>(a); });
                                                         },
                                                         [](const BackwardArgs& a) {
                                                           dispatch_float(a.output_gradients[0].dtype, "layer_norm",
                                                                          [&]<class T>() { backward<T>(a); });
                                                         }},
                                             .backward_workspace = backward_workspace});

}  // namespace
}  // namespace parabola::layer_norm_cuda
