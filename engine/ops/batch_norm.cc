#include "engine/ops/batch_norm.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

enum Input : uint8_t { x_input, gamma_input, beta_input, mean_input, variance_input };

template <bool training>
constexpr const char* name = training ? "batch_norm" : "batch_norm_inference";

RowBlocks rows_of(const Shape& x) { return rows_at_once(x.product(0, x.rank() - 1), x.back()); }

// Statistics of the batch into the auxiliary results [mean, 1 / deviation].
template <class T>
void batch_statistics(const ForwardArgs& args, const RowBlocks& rows) {
  const auto& options = args.attributes.get<BatchNormOptions>();
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
    if (!args.auxiliary_ready) batch_statistics<T>(args, rows);
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
  parallel_for(rows.rows / rows.at_once, row_grain(width), [=](int64_t first, int64_t last) {
    for (int64_t at = first * width; at < last * width; at += width) {
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < width; ++c) y[at + c] = std::fma(x[at + c] - mean[c], scale[c], beta[c]);
    }
  });
}

// With the batch's own statistics, x_hat = (x - mean) invstd and M rows:
//   dx = gamma invstd (dy - sum dy / M - x_hat sum(dy x_hat) / M);  with given ones dx = gamma invstd dy.
template <bool training, class T>
void backward(const BackwardArgs& args) {
  const RowBlocks rows = rows_of(args.output_gradients[0].shape);
  const int64_t channels = rows.columns, width = rows.width();
  const T *x = args.inputs[x_input].data<T>(), *gamma = args.inputs[gamma_input].data<T>(),
          *dy = args.output_gradients[0].data<T>();
  T *sum_dy = reinterpret_cast<T*>(args.workspace), *sum_dy_x_hat = sum_dy + width, *invstd = sum_dy_x_hat + width,
    *mean = invstd + width, *scratch = mean + width;
  const bool wants_dx = args.wants(x_input), wants_x_hat = args.wants(gamma_input) || (training && wants_dx);
  if (training && wants_x_hat) {
    repeat_row(args.auxiliary[0].data<T>(), rows, mean);
    repeat_row(args.auxiliary[1].data<T>(), rows, invstd);
  } else if (!training && args.inputs[variance_input]) {
    const double eps = args.attributes.get<BatchNormOptions>().eps;
    inverse_deviation(args.inputs[variance_input].data<T>(), channels, eps, mean);
    repeat_row(mean, rows, invstd);
    if (args.inputs[mean_input]) repeat_row(args.inputs[mean_input].data<T>(), rows, mean);
  }
  if (wants_x_hat || args.wants(beta_input)) {
    const auto add_rows = [=](int64_t first, int64_t last, T* partial) {
      for (int64_t at = first * channels; at < last * channels; at += width) {
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) partial[c] += dy[at + c];
        if (!wants_x_hat) continue;
        T* products = partial + width;
        PARABOLA_INDEPENDENT
        for (int64_t c = 0; c < width; ++c) {
          products[c] = std::fma(dy[at + c], (x[at + c] - mean[c]) * invstd[c], products[c]);
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
  if (!wants_dx) return;
  // dx = scale dy - (offset + slope (x - mean)), written over what the coefficients are made of.
  T *offset = sum_dy, *slope = sum_dy_x_hat, *scale = invstd;
  for (int64_t c = 0; c < width; ++c) {
    const T deviation = invstd[c];
    scale[c] = gamma[c % channels] * deviation;
    offset[c] *= scale[c] / static_cast<T>(rows.rows);
    slope[c] *= scale[c] * deviation / static_cast<T>(rows.rows);
  }
  T* dx = args.input_gradients[x_input].data<T>();
  const bool accumulate = args.accumulates(x_input);
  parallel_for(rows.rows / rows.at_once, row_grain(width), [=](int64_t first, int64_t last) {
    for (int64_t at = first * width; at < last * width; at += width) {
      store_or_add(dx + at, accumulate, 0, width, [=](int64_t c) {
        if constexpr (training)
          return std::fma(scale[c], dy[at + c], -std::fma(x[at + c] - mean[c], slope[c], offset[c]));
        return scale[c] * dy[at + c];
      });
    }
  });
}

template <bool training>
Layout layout(const Signature& s) {
  const Shape& x = s.shape(x_input);
  if (x.rank() < 2) fail<ShapeError>(name<training>, "got x of shape ", x, ", expected at least [N, C]");
  require_one_dtype(name<training>, s);
  constexpr const char* arguments[] = {"x", "gamma", "beta", "running mean", "running variance"};
  for (int i = gamma_input; i <= variance_input; ++i) {
    require_shape(name<training>, s, i, arguments[i], Shape{x.back()});
  }
  const RowBlocks rows = rows_of(x);
  if (training && rows.rows < 2) {
    fail<ShapeError>(name<training>, "got x of shape ", x, ", expected at least 2 values for each channel");
  }
  Layout result{.outputs = {{x, s.dtype()}}};
  const TensorSpec channel{Shape{x.back()}, s.dtype()};
  if (training) result.auxiliary = {channel, channel};
  dispatch_float(s.dtype(), name<training>, [&]<class T>() {
    const size_t row = static_cast<size_t>(rows.width()) * sizeof(T);
    result.forward_workspace = training ? std::max(3 * row, column_moments_workspace<T>(rows)) : 3 * row;
    result.backward_workspace = 4 * row + column_sums_workspace<T>(rows, 2);
  });
  return result;
}

template <bool training>
Needs needs(const Signature& s) {
  const bool dx = s.wants_gradient(x_input), dgamma = s.wants_gradient(gamma_input);
  const bool reads_x = dgamma || (training && dx);
  Needs result{.inputs = uint64_t{reads_x} << x_input | uint64_t{dx} << gamma_input};
  if (training) {
    result.auxiliary = reads_x ? 3 : 0;
  } else {
    result.inputs |= uint64_t{dgamma} << mean_input | uint64_t{dx || dgamma} << variance_input;
  }
  return result;
}

template <bool training>
constexpr OpDef define() {
  // Forward, an element: 5 flops for the moments, 3 to normalise. Backward: 1 for sum dy, 4 for sum dy x_hat, 1 or 5
  // for dx.
  return {
      .name = name<training>,
      .layout = layout<training>,
      .cost =
          [](const Signature& s) {
            const bool dx = s.wants_gradient(x_input), dgamma = s.wants_gradient(gamma_input);
            const double sums = training || dgamma ? 5 : s.wants_gradient(beta_input) ? 1 : 0;
            return elementwise_cost(s, training ? 8 : 3, sums + (dx ? (training ? 5 : 1) : 0));
          },
      .needs = needs<training>,
      .policy = Policy::recompute,
      .mutates = training ? uint64_t{1} << mean_input | uint64_t{1} << variance_input : 0,
      .gradient_in_place = true,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<training>, [&]<class T>() { forward<training, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<training>,
                               [&]<class T>() { backward<training, T>(a); });
              }},
  };
}

}  // namespace

const OpDef batch_norm_op = define<true>();
const OpDef batch_norm_inference_op = define<false>();

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_variance, const BatchNormOptions& options) {
  return apply(options.training ? batch_norm_op : batch_norm_inference_op,
               {x, gamma, beta, running_mean, running_variance}, options);
}

}  // namespace parabola
