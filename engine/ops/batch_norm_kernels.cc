#include "engine/ops/batch_norm_kernels.h"

#include "engine/blas/vector.h"
#include "engine/ops/elementwise.h"

namespace parabola::batch_norm_kernels {
namespace {

// A result of so many bytes has mostly left a processor's caches before it is read, so it is written past them.
constexpr int64_t streamed_bytes = 16 << 20;
constexpr int64_t widest_streamed = 2048;
template <class T>
bool streamed(const RowBlocks& rows) {
  return has_streams && rows.rows * rows.columns * int64_t{sizeof(T)} >= streamed_bytes &&
         rows.width() <= widest_streamed;
}

// Calls f with a type whose `value` is the flag, so that loops know it.
template <class F>
void with_flag(bool flag, const F& f) {
  if (flag)
    f(std::true_type());
  else
    f(std::false_type());
}

// dy, zero where the relu gave zero: by its result or, in training, by its argument made again from x, which is read
// anyway, and the residual, where there is one (`sum`; only within other ops, which keep it but not the result).
enum class Mask : uint8_t { none, result, argument, sum };
template <class T, Mask mask>
struct Upstream {
  const T *dy, *y, *x, *mean, *scale, *beta, *residual;
  T operator()(int64_t row, int64_t c) const {
    const T upstream = dy[row + c];  // read in any case, so that loops have no branch
    if constexpr (mask == Mask::none) return upstream;
    if constexpr (mask == Mask::result) return y[row + c] > 0 ? upstream : T(0);
    T argument = std::fma(x[row + c] - mean[c], scale[c], beta[c]);
    if constexpr (mask == Mask::sum) argument += residual[row + c];
    return argument > 0 ? upstream : T(0);
  }
};

// With the batch's own statistics, x_hat = (x - mean) invstd and M rows:
//   dx = gamma invstd (dy - sum dy / M - x_hat sum(dy x_hat) / M);  with given ones dx = gamma invstd dy.
template <bool training, class T, Mask mask>
void backward_with(const BackwardArgs& args) {
  const RowBlocks rows = rows_of(args.output_gradients[0].shape);
  const int64_t channels = rows.columns, width = rows.width();
  const T *x = args.inputs[x_input].data<T>(), *gamma = args.inputs[gamma_input].data<T>();
  T *sum_dy = reinterpret_cast<T*>(args.workspace), *sum_dy_x_hat = sum_dy + width, *invstd = sum_dy_x_hat + width,
    *mean = invstd + width, *scale = mean + width, *beta = scale + width, *scratch = beta + width;
  const Upstream<T, mask> dy{.dy = args.output_gradients[0].data<T>(),
                             .y = mask == Mask::result ? args.outputs[0].data<T>() : nullptr,
                             .x = x,
                             .mean = mean,
                             .scale = scale,
                             .beta = beta,
                             .residual = data_of<T>(args.inputs, residual_input)};
  const bool wants_dx = args.wants(x_input), wants_x_hat = args.wants(gamma_input) || (training && wants_dx);
  if (training && args.auxiliary[0]) {
    repeat_row(args.auxiliary[0].data<T>(), rows, mean);
    repeat_row(args.auxiliary[1].data<T>(), rows, invstd);
  } else if (!training && args.inputs[variance_input]) {
    const double eps = args.attributes.get<BatchNormOptions>().eps;
    inverse_deviation(args.inputs[variance_input].data<T>(), channels, eps, mean);
    repeat_row(mean, rows, invstd);
    if (args.inputs[mean_input]) repeat_row(args.inputs[mean_input].data<T>(), rows, mean);
  }
  for (int64_t c = 0; gamma && c < width; ++c) scale[c] = gamma[c % channels] * invstd[c];
  if (mask == Mask::argument || mask == Mask::sum) repeat_row(args.inputs[beta_input].data<T>(), rows, beta);
  if (wants_x_hat || args.wants(beta_input)) {
    const auto add_rows = [=](int64_t first, int64_t last, T* partial) {
      for (int64_t at = first * channels; at < last * channels; at += width) {
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) partial[c] += dy(at, c);
        if (!wants_x_hat) continue;
        T* products = partial + width;
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) {
          products[c] = std::fma(dy(at, c), (x[at + c] - mean[c]) * invstd[c], products[c]);
        }
      }
    };
    column_sums<T>(rows, 2, scratch, add_rows, [&](int64_t i, double sum) {
      const Input input = i < channels ? beta_input : gamma_input;
      T* sums = input == beta_input ? sum_dy : sum_dy_x_hat;
      const T value = static_cast<T>(sum);
      for (int64_t c = i % channels; c < width; c += channels) sums[c] = value;
      if (!args.wants(input)) return;
      T& d = args.input_gradients[input].data<T>()[i % channels];
      d = args.accumulates(input) ? d + value : value;
    });
  }
  T *dx = args.input_gradients[x_input].data<T>(), *d_residual = data_of<T>(args.input_gradients, residual_input);
  if (!dx && !d_residual) return;
  // dx = scale dy - (offset + slope (x - mean)), the latter two written over the sums.
  T *offset = sum_dy, *slope = sum_dy_x_hat;
  for (int64_t c = 0; dx && c < width; ++c) {
    offset[c] *= scale[c] / static_cast<T>(rows.rows);
    slope[c] *= scale[c] * invstd[c] / static_cast<T>(rows.rows);
  }
  const bool adds = args.accumulates(x_input), adds_residual = d_residual && args.accumulates(residual_input);
  const bool streams = !adds && streamed<T>(rows);
  parallel_for(rows.rows / rows.at_once, row_grain(width), [=](int64_t first, int64_t last) {
    alignas(64) T row[widest_streamed];
    for (int64_t at = first * width; at < last * width; at += width) {
      // First, since dx may take the place of dy.
      if (d_residual) store_or_add(d_residual + at, adds_residual, 0, width, [=](int64_t c) { return dy(at, c); });
      if (!dx) continue;
      store_or_add(streams ? row : dx + at, adds, 0, width, [=](int64_t c) {
        if constexpr (training)
          return std::fma(scale[c], dy(at, c), -std::fma(x[at + c] - mean[c], slope[c], offset[c]));
        return scale[c] * dy(at, c);
      });
      if (streams) stream_copy(width, row, dx + at);
    }
    if (streams) end_streaming();
  });
}

}  // namespace

template <class T>
void batch_statistics(const ForwardArgs& args) {
  const auto& options = args.attributes.get<BatchNormOptions>();
  const RowBlocks rows = rows_of(args.inputs[x_input].shape);
  T *mean = args.auxiliary[0].data<T>(), *invstd = args.auxiliary[1].data<T>(), *variance = invstd;
  column_moments(args.inputs[x_input].data<T>(), rows, reinterpret_cast<T*>(args.workspace), mean, variance);
  if (!args.replay) {
    move_running_statistics(mean, variance, rows.rows, rows.columns, options.momentum,
                            args.inputs[mean_input].data<T>(), args.inputs[variance_input].data<T>());
  }
  inverse_deviation(variance, rows.columns, options.eps, invstd);
}

template <bool training, class T>
void forward(const ForwardArgs& args) {
  const RowBlocks rows = rows_of(args.inputs[x_input].shape);
  const int64_t channels = rows.columns, width = rows.width();
  const T *x = args.inputs[x_input].data<T>(), *gamma = args.inputs[gamma_input].data<T>(),
          *given_mean = args.inputs[mean_input].data<T>();
  T *y = args.outputs[0].data<T>(), *scale = reinterpret_cast<T*>(args.workspace), *mean = scale + width,
    *beta = mean + width;
  if constexpr (training) {
    if (!args.auxiliary_ready) batch_statistics<T>(args);
    given_mean = args.auxiliary[0].data<T>();
    repeat_row(args.auxiliary[1].data<T>(), rows, scale);
  } else {
    inverse_deviation(args.inputs[variance_input].data<T>(), channels, args.attributes.get<BatchNormOptions>().eps,
                      mean);
    repeat_row(mean, rows, scale);
  }
  repeat_row(given_mean, rows, mean);
  repeat_row(args.inputs[beta_input].data<T>(), rows, beta);
  for (int64_t c = 0; c < width; ++c) scale[c] *= gamma[c % channels];
  // x - mean first: x scale + shift would cancel what is left of x where the mean is far from zero.
  const T* residual = data_of<T>(args.inputs, residual_input);
  const bool streams = streamed<T>(rows);
  with_flag(args.attributes.get<BatchNormOptions>().relu, [&](auto relu) {
    with_flag(residual != nullptr, [&](auto adds) {
      parallel_for(rows.rows / rows.at_once, row_grain(width), [=](int64_t first, int64_t last) {
        alignas(64) T row[widest_streamed];
        for (int64_t at = first * width; at < last * width; at += width) {
          T* to = streams ? row : y + at;
          PARABOLA_INDEPENDENT
          for (int64_t c = 0; c < width; ++c) {
            T value = std::fma(x[at + c] - mean[c], scale[c], beta[c]);
            if constexpr (adds) value += residual[at + c];
            if constexpr (relu) value = value > 0 ? value : T(0);
            to[c] = value;
          }
          if (streams) stream_copy(width, row, y + at);
        }
        if (streams) end_streaming();
      });
    });
  });
}

template <bool training, class T>
void backward(const BackwardArgs& args) {
  if (!args.attributes.get<BatchNormOptions>().relu) return backward_with<training, T, Mask::none>(args);
  if (args.outputs[0]) return backward_with<training, T, Mask::result>(args);
  if (training && data_of<T>(args.inputs, residual_input)) return backward_with<true, T, Mask::sum>(args);
  if (training) backward_with<true, T, Mask::argument>(args);
}

template void batch_statistics<float>(const ForwardArgs&);
template void batch_statistics<double>(const ForwardArgs&);
template void forward<true, float>(const ForwardArgs&);
template void backward<true, float>(const BackwardArgs&);
template void forward<true, double>(const ForwardArgs&);
template void backward<true, double>(const BackwardArgs&);
template void forward<false, float>(const ForwardArgs&);
template void backward<false, float>(const BackwardArgs&);
template void forward<false, double>(const ForwardArgs&);
template void backward<false, double>(const BackwardArgs&);

}  // namespace parabola::batch_norm_kernels
