// batch_norm and batch_norm_inference on CUDA; the formulas are in batch_norm_kernels.cc.
#include "engine/ops/batch_norm_kernels.h"

#include "engine/ops/column_grid.cuh"
#include "engine/ops/column_moments.cuh"
#include "engine/ops/norm_gradients.cuh"
#include "engine/ops/scratch.h"

namespace parabola::batch_norm_cuda {
namespace {

using namespace batch_norm_kernels;

ColumnParts matrix_of(const Shape& x) { return {x.product(0, x.rank() - 1), x.back()}; }

template <class T>
__global__ void batch_norm_inverse_deviation(const T* variance, double eps, T* rstd, int64_t channels) {
  for (int64_t c = thread_index(); c < channels; c += thread_count())
    rstd[c] = static_cast<T>(1 / std::sqrt(variance[c] + eps));
}

template <class T>
__global__ void batch_norm_forward(const T* x, const T* gamma, const T* beta, const T* mean, const T* rstd,
                                   const T* residual, bool relu, T* y, int64_t rows, int64_t channels) {
  const int64_t c = thread_index();
  if (c >= channels) return;
  // x - mean first: x scale + shift would cancel what is left of x where the mean is far from zero.
  const T centre = mean[c], scale = gamma[c] * rstd[c], shift = beta[c];
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * channels + c;
    T value = std::fma(x[i] - centre, scale, shift);
    if (residual) value += residual[i];
    y[i] = relu && !(value > 0) ? T(0) : value;
  }
}

template <class T>
__global__ void batch_norm_residual_gradient(Upstream<T> dy, T* d_residual, bool accumulate, int64_t rows,
                                             int64_t channels) {
  const int64_t c = thread_index();
  if (c >= channels) return;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * channels + c;
    d_residual[i] = accumulate ? d_residual[i] + dy(i, c) : dy(i, c);
  }
}

// sums [2][channels]: those of dy and dy x_hat.
template <class T>
__global__ void batch_norm_backward(const T* x, const T* gamma, Upstream<T> dy, const T* mean, const T* rstd,
                                    const T* sums, T* dx, bool accumulate, int64_t rows, int64_t channels) {
  const int64_t c = thread_index();
  if (c >= channels) return;
  const T centre = mean[c], scale = gamma[c] * rstd[c], part = scale / static_cast<T>(rows), offset = part * sums[c],
          slope = part * rstd[c] * sums[channels + c];
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * channels + c;
    const T d = std::fma(scale, dy(i, c), -std::fma(x[i] - centre, slope, offset));
    dx[i] = accumulate ? dx[i] + d : d;
  }
}

template <class T>
__global__ void batch_norm_inference_backward(const T* gamma, Upstream<T> dy, const T* rstd, T* dx, bool accumulate,
                                              int64_t rows, int64_t channels) {
  const int64_t c = thread_index();
  if (c >= channels) return;
  const T scale = gamma[c] * rstd[c];
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t i = row * channels + c;
    dx[i] = accumulate ? std::fma(scale, dy(i, c), dx[i]) : scale * dy(i, c);
  }
}

template <class T>
void inverse_deviation(DeviceStream stream, const TensorView& variance, const Attributes& attributes, T* rstd) {
  const int64_t channels = variance.shape.elements();
  launch(batch_norm_inverse_deviation<T>, blocks_for(channels), block_size, 0, stream, variance.data<T>(),
         attributes.get<BatchNormOptions>().eps, rstd, channels);
}

template <bool training, class T>
void forward(const ForwardArgs& args) {
  const ColumnParts matrix = matrix_of(args.inputs[x_input].shape);
  const T *x = args.inputs[x_input].data<T>(), *mean = args.inputs[mean_input].data<T>();
  T* rstd = reinterpret_cast<T*>(args.workspace);
  if constexpr (training) {
    mean = args.auxiliary[0].data<T>(), rstd = args.auxiliary[1].data<T>();
    const auto& options = args.attributes.get<BatchNormOptions>();
    const BatchStatistics<T> statistics{args.auxiliary[0].data<T>(),
                                        rstd,
                                        args.replay ? nullptr : args.inputs[mean_input].data<T>(),
                                        args.inputs[variance_input].data<T>(),
                                        options.momentum,
                                        options.eps,
                                        static_cast<double>(matrix.rows)};
    if (!args.auxiliary_ready) device_column_moments(args.stream, x, matrix, args.workspace, statistics);
  } else {
    inverse_deviation(args.stream, args.inputs[variance_input], args.attributes, rstd);
  }
  launch_on_columns(batch_norm_forward<T>, args.stream, matrix.rows, matrix.columns, x,
                    args.inputs[gamma_input].data<T>(), args.inputs[beta_input].data<T>(), mean, rstd,
                    data_of<T>(args.inputs, residual_input), args.attributes.get<BatchNormOptions>().relu,
                    args.outputs[0].data<T>(), matrix.rows, matrix.columns);
}

// What backward keeps for a channel, and the scratch of the sums.
template <class T>
struct BackwardScratch {
  T *sums, *rstd;
  std::byte* partials;
  BackwardScratch(Scratch& scratch, const ColumnParts& matrix)
      : sums(scratch.take<T>(2 * matrix.columns)),
        rstd(scratch.take<T>(matrix.columns)),
        partials(scratch.take<std::byte>(static_cast<int64_t>(matrix.workspace<T>(2)))) {}
};

template <bool training, class T>
void backward(const BackwardArgs& args) {
  const ColumnParts matrix = matrix_of(args.output_gradients[0].shape);
  const T *x = args.inputs[x_input].data<T>(), *gamma = args.inputs[gamma_input].data<T>(),
          *mean = args.inputs[mean_input].data<T>();
  T* dx = args.input_gradients[x_input].data<T>();
  Scratch scratch(args.workspace);
  const BackwardScratch<T> own(scratch, matrix);
  const T* rstd = own.rstd;
  if constexpr (training)
    mean = args.auxiliary[0].data<T>(), rstd = args.auxiliary[1].data<T>();
  else if (args.inputs[variance_input])
    inverse_deviation(args.stream, args.inputs[variance_input], args.attributes, own.rstd);

  const bool of_x_hat = args.wants(gamma_input) || (training && dx);
  Upstream<T> dy{args.output_gradients[0].data<T>()};
  if (args.attributes.get<BatchNormOptions>().relu) {
    if (args.outputs[0])
      dy.y = args.outputs[0].data<T>();
    else
      dy = {dy.dy,
            nullptr,
            x,
            mean,
            rstd,
            gamma,
            args.inputs[beta_input].data<T>(),
            data_of<T>(args.inputs, residual_input)};
  }
  const NormTerms<T, false> terms{of_x_hat ? x : nullptr, dy, mean, rstd, matrix.columns};
  const NormGradients<T> gradients{
      {args.input_gradients[beta_input].data<T>(), args.input_gradients[gamma_input].data<T>()},
      {args.accumulates(beta_input), args.accumulates(gamma_input)},
      matrix.columns,
      own.sums};
  if (of_x_hat || args.wants(beta_input)) device_column_sums<2, T>(args.stream, matrix, own.partials, terms, gradients);

  if (T* d_residual = data_of<T>(args.input_gradients, residual_input))  // first, since dx may take the place of dy
    launch_on_columns(batch_norm_residual_gradient<T>, args.stream, matrix.rows, matrix.columns, dy, d_residual,
                      args.accumulates(residual_input), matrix.rows, matrix.columns);
  if (!dx) return;
  if constexpr (training)
    launch_on_columns(batch_norm_backward<T>, args.stream, matrix.rows, matrix.columns, x, gamma, dy, mean, rstd,
                      own.sums, dx, args.accumulates(x_input), matrix.rows, matrix.columns);
  else
    launch_on_columns(batch_norm_inference_backward<T>, args.stream, matrix.rows, matrix.columns, gamma, dy, rstd, dx,
                      args.accumulates(x_input), matrix.rows, matrix.columns);
}

template <bool training>
void dispatch_forward(const ForwardArgs& args) {
  dispatch_float(args.inputs[0].dtype, "batch_norm", [&]<class T>() { forward<training, T>(args); });
}

template <bool training>
void dispatch_backward(const BackwardArgs& args) {
  dispatch_float(args.output_gradients[0].dtype, "batch_norm", [&]<class T>() { backward<training, T>(args); });
}

size_t moments_workspace(const Signature& s) { return device_column_moments_workspace(matrix_of(s.shape(x_input))); }

size_t deviations_workspace(const Signature& s) { return s.inputs[variance_input].bytes(); }

size_t backward_workspace(const Signature& s) {
  Scratch scratch;
  dispatch_float(s.dtype(), "batch_norm", [&]<class T>() { BackwardScratch<T>(scratch, matrix_of(s.shape(x_input))); });
  return scratch.bytes();
}

const CudaKernels registered(batch_norm_op, {.kernels = {dispatch_forward<true>, dispatch_backward<true>},
                                             .forward_workspace = moments_workspace,
                                             .backward_workspace = backward_workspace});

const CudaKernels registered_inference(batch_norm_inference_op,
                                       {.kernels = {dispatch_forward<false>, dispatch_backward<false>},
                                        .forward_workspace = deviations_workspace,
                                        .backward_workspace = backward_workspace});

}  // namespace
}  // namespace parabola::batch_norm_cuda
