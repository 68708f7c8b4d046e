#include "engine/ops/layer_norm.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/lanes.h"

namespace parabola {
namespace {

RowBlocks rows_of(const Shape& x) { return {x.product(0, x.rank() - 1), x.back()}; }

// Two passes over a row that is in the cache. What is rough in the first mean comes out as the deviations' own mean.
template <class T>
void row_statistics(const T* x, int64_t channels, double eps, T* mean, T* rstd) {
  const T n = static_cast<T>(channels), rough = lane_sum<T>(channels, [=](int64_t c) { return x[c]; }) / n;
  const T off = lane_sum<T>(channels, [=](int64_t c) { return x[c] - rough; }) / n;
  const T squares = lane_sum<T>(channels, [=](int64_t c) { return (x[c] - rough) * (x[c] - rough); }) / n;
  *mean = rough + off;
  *rstd = static_cast<T>(1 / std::sqrt(std::max(T(0), squares - off * off) + eps));
}

template <class T>
void forward(const ForwardArgs& args) {
  const RowBlocks rows = rows_of(args.inputs[0].shape);
  const int64_t channels = rows.columns;
  const double eps = args.attributes.get<LayerNormAttributes>().eps;
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>(), *beta = args.inputs[2].data<T>();
  T *y = args.outputs[0].data<T>(), *means = args.auxiliary[0].data<T>(), *rstds = args.auxiliary[1].data<T>();
  const bool statistics_ready = args.auxiliary_ready;
  parallel_for(rows.rows, row_grain(channels), [=](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* in = x + row * channels;
      T* out = y + row * channels;
      if (!statistics_ready) row_statistics(in, channels, eps, means + row, rstds + row);
      const T mean = means[row], rstd = rstds[row];
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < channels; ++c) out[c] = std::fma((in[c] - mean) * rstd, gamma[c], beta[c]);
    }
  });
}

// With x_hat = (x - mean) rstd and g = gamma dy:  dx = rstd (g - mean of g - x_hat times mean of g x_hat), row by row;
// dgamma and dbeta are sums over the rows of dy x_hat and dy.
template <class T>
void backward(const BackwardArgs& args) {
  const RowBlocks rows = rows_of(args.output_gradients[0].shape);
  const int64_t channels = rows.columns;
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>(),
          *means = args.auxiliary[0].data<T>(), *rstds = args.auxiliary[1].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool wants_gamma = args.wants(1), wants_beta = args.wants(2), accumulate = args.accumulates(0);
  const auto input_gradient = [=](int64_t row) {
    const T *in = x + row * channels, *g = dy + row * channels, mean = means[row], rstd = rstds[row];
    const T n = static_cast<T>(channels);
    const T sum = lane_sum<T>(channels, [=](int64_t c) { return gamma[c] * g[c]; }) / n;
    const T dot = lane_sum<T>(channels, [=](int64_t c) { return gamma[c] * g[c] * ((in[c] - mean) * rstd); }) / n;
    store_or_add(dx + row * channels, accumulate, 0, channels,
                 [=](int64_t c) { return rstd * (gamma[c] * g[c] - sum - (in[c] - mean) * rstd * dot); });
  };
  if (!wants_gamma && !wants_beta)
    return parallel_for(rows.rows, row_grain(channels), [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) input_gradient(row);
    });
  // One pass: a row is in the first level of cache when its terms are added up.
  const auto add_rows = [=](int64_t first, int64_t last, T* partial) {
    for (int64_t row = first; row < last; ++row) {
      if (dx) input_gradient(row);
      const T* g = dy + row * channels;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < channels; ++c) partial[c] += g[c];
      if (!wants_gamma) continue;
      const T *in = x + row * channels, mean = means[row], rstd = rstds[row];
      T* products = partial + channels;
      PARABOLA_INDEPENDENT
      for (int64_t c = 0; c < channels; ++c) products[c] = std::fma(g[c], (in[c] - mean) * rstd, products[c]);
    }
  };
  column_sums<T>(rows, 2, reinterpret_cast<T*>(args.workspace), add_rows, [&](int64_t i, double sum) {
    const int input = i < channels ? 2 : 1;
    if (!args.wants(input)) return;
    T& d = args.input_gradients[input].data<T>()[i % channels];
    d = args.accumulates(input) ? d + static_cast<T>(sum) : static_cast<T>(sum);
  });
}

Layout layout(const Signature& s) {
  const Shape& x = s.shape(0);
  if (x.rank() < 1 || x.back() < 1) fail<ShapeError>("layer_norm", "got x of shape ", x, ", expected a last axis");
  require_one_dtype("layer_norm", s);
  require_shape("layer_norm", s, 1, "gamma", Shape{x.back()});
  require_shape("layer_norm", s, 2, "beta", Shape{x.back()});
  const RowBlocks rows = rows_of(x);
  const TensorSpec row{Shape{rows.rows}, s.dtype()};
  Layout result{.outputs = {{x, s.dtype()}}, .auxiliary = {row, row}};
  dispatch_float(s.dtype(), "layer_norm",
                 [&]<class T>() { result.backward_workspace = column_sums_workspace<T>(rows, 2); });
  return result;
}

// Forward, an element: 6 flops for the statistics, 4 to normalise. Backward: 12 for dx, 4 for dgamma, 1 for dbeta.
StepCost cost(const Signature& s) {
  return elementwise_cost(
      s, 10, (s.wants_gradient(0) ? 12 : 0) + (s.wants_gradient(1) ? 4 : 0) + (s.wants_gradient(2) ? 1 : 0));
}

Needs needs(const Signature& s) {
  const bool reads_x = s.wants_gradient(0) || s.wants_gradient(1);
  return {.inputs = (reads_x ? 1U : 0U) | (s.wants_gradient(0) ? 2U : 0U), .auxiliary = reads_x ? 3U : 0U};
}

}  // namespace

const OpDef layer_norm_op = {
    .name = "layer_norm",
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "layer_norm", [&]<class T>() { forward<T>(a); });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "layer_norm", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  return apply(layer_norm_op, {x, gamma, beta}, LayerNormAttributes{eps});
}

}  // namespace parabola
