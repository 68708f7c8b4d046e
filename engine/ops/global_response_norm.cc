#include "engine/ops/global_response_norm.h"

#include "engine/core/error.h"
#include "engine/ops/bias.h"
#include "engine/ops/checks.h"
#include "engine/ops/lanes.h"
#include "engine/ops/scratch.h"

namespace parabola {
namespace {

constexpr const char* name = "global_response_norm";

// One matrix [pixels, channels] an image.
RowBlocks images_of(const Shape& x) { return {x[1] * x[2], x[3], x[0]}; }

template <class T>
struct Workspace {
  T *sums, *responses, *products, *slopes, *beta;
  size_t bytes;
  Workspace(const RowBlocks& images, bool backward, std::byte* memory = nullptr) {
    Scratch scratch(memory);
    const int64_t all = images.outer * images.columns;
    sums = reinterpret_cast<T*>(scratch.take<std::byte>(static_cast<int64_t>(column_sums_workspace<T>(images))));
    responses = scratch.take<T>(all);
    products = scratch.take<T>(backward ? all : 0);
    slopes = scratch.take<T>(backward ? all : 0);
    beta = scratch.take<T>(backward ? bias_gradient_workspace(images.outer * images.rows, images.columns) : 0);
    bytes = scratch.bytes();
  }
};

// to [N, C] = the sums of a b over each image.
template <class T>
void sum_images(const RowBlocks& images, const T* a, const T* b, T* workspace, T* to) {
  const auto add_products = [a, b, C = images.columns](int64_t first, int64_t last, T* sums) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < C; ++c) sums[c] = std::fma(a[row * C + c], b[row * C + c], sums[c]);
  };
  column_sums<T>(images, 1, workspace, add_products, [to](int64_t i, double sum) { to[i] = static_cast<T>(sum); });
}

// 1 / (mean of g + eps), of an image.
template <class T>
T scale_of(const T* norms, int64_t channels, double eps) {
  const T mean = lane_sum<T>(channels, [=](int64_t c) { return norms[c]; }) / static_cast<T>(channels);
  return static_cast<T>(1 / (mean + eps));
}

// Calls row(image, first element of the row) for every pixel.
template <class Row>
void each_pixel(const RowBlocks& images, Row&& row) {
  parallel_for(images.outer * images.rows, row_grain(images.columns), [&](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) row(pixel / images.rows, pixel * images.columns);
  });
}

template <class T>
void forward(const ForwardArgs& args) {
  const RowBlocks images = images_of(args.inputs[0].shape);
  const int64_t C = images.columns;
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>(), *beta = args.inputs[2].data<T>();
  T *y = args.outputs[0].data<T>(), *norms = args.auxiliary[0].data<T>();
  const Workspace<T> workspace(images, false, args.workspace);
  if (!args.auxiliary_ready) {
    sum_images(images, x, x, workspace.sums, norms);
    for (int64_t i = 0; i < images.outer * C; ++i) norms[i] = std::sqrt(norms[i]);
  }
  for (int64_t n = 0; n < images.outer; ++n) {
    const T scale = scale_of(norms + n * C, C, args.attributes.get<GlobalResponseNormAttributes>().eps);
    for (int64_t c = 0; c < C; ++c) workspace.responses[n * C + c] = norms[n * C + c] * scale;
  }
  each_pixel(images, [=, responses = workspace.responses](int64_t n, int64_t at) {
    const T* r = responses + n * C;
    for (int64_t c = 0; c < C; ++c) y[at + c] = std::fma(x[at + c], std::fma(gamma[c], r[c], T(1)), beta[c]);
  });
}

// With p [N, C] = the sum of dy x over the image, q = gamma p and s = 1 / (mean of g + eps):
//   dgamma = sum over n of r p,   dg = s q - s^2 mean over C of q g,   dx = dy (1 + gamma r) + x dg / g.
template <class T>
void backward(const BackwardArgs& args) {
  const RowBlocks images = images_of(args.output_gradients[0].shape);
  const int64_t N = images.outer, C = images.columns;
  const T *x = args.inputs[0].data<T>(), *gamma = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>(),
          *norms = args.auxiliary[0].data<T>();
  const Workspace<T> workspace(images, true, args.workspace);
  if (args.wants(2))
    bias_gradient(dy, N * images.rows, C, args.input_gradients[2].data<T>(), args.accumulates(2), workspace.beta);
  if (!args.wants(0) && !args.wants(1)) return;
  T *responses = workspace.responses, *products = workspace.products, *slopes = workspace.slopes;
  sum_images(images, dy, x, workspace.sums, products);
  for (int64_t n = 0; n < N; ++n) {
    const T *g = norms + n * C, *p = products + n * C;
    const T scale = scale_of(g, C, args.attributes.get<GlobalResponseNormAttributes>().eps);
    for (int64_t c = 0; c < C; ++c) responses[n * C + c] = g[c] * scale;
    if (!args.wants(0)) continue;
    const T dot = lane_sum<T>(C, [=](int64_t c) { return gamma[c] * p[c] * g[c]; }), mean = dot / static_cast<T>(C);
    for (int64_t c = 0; c < C; ++c)
      slopes[n * C + c] = g[c] > 0 ? scale * (gamma[c] * p[c] - scale * mean) / g[c] : T(0);
  }
  if (args.wants(1)) {
    T* to = args.input_gradients[1].data<T>();
    for (int64_t c = 0; c < C; ++c) {
      double sum = 0;
      for (int64_t n = 0; n < N; ++n) sum += responses[n * C + c] * products[n * C + c];
      to[c] = args.accumulates(1) ? to[c] + static_cast<T>(sum) : static_cast<T>(sum);
    }
  }
  if (!args.wants(0)) return;
  each_pixel(images, [=, to = args.input_gradients[0].data<T>(), add = args.accumulates(0)](int64_t n, int64_t at) {
    const T *r = responses + n * C, *slope = slopes + n * C;
    for (int64_t c = 0; c < C; ++c) {
      const T d = std::fma(dy[at + c], std::fma(gamma[c], r[c], T(1)), x[at + c] * slope[c]);
      to[at + c] = add ? to[at + c] + d : d;
    }
  });
}

Layout layout(const Signature& s) {
  const Shape& x = s.shape(0);
  if (x.rank() != 4 || x[3] < 1) fail<ShapeError>(name, "got x of shape ", x, ", expected [N, H, W, C]");
  require_one_dtype(name, s);
  require_shape(name, s, 1, "gamma", {x[3]});
  require_shape(name, s, 2, "beta", {x[3]});
  Layout result{.outputs = {{x, s.dtype()}}, .auxiliary = {{{x[0], x[3]}, s.dtype()}}};
  dispatch_float(s.dtype(), name, [&]<class T>() {
    result.forward_workspace = Workspace<T>(images_of(x), false).bytes;
    result.backward_workspace = Workspace<T>(images_of(x), true).bytes;
  });
  return result;
}

// Forward, an element: 2 flops for the norm, 4 to scale. Backward: 2 for p, 6 for dx, 1 for dbeta.
StepCost cost(const Signature& s) {
  const bool reads_x = s.wants_gradient(0) || s.wants_gradient(1);
  return elementwise_cost(s, 6, (reads_x ? 2 : 0) + (s.wants_gradient(0) ? 6 : 0) + (s.wants_gradient(2) ? 1 : 0));
}

Needs needs(const Signature& s) {
  const bool reads_x = s.wants_gradient(0) || s.wants_gradient(1);
  return {.inputs = (reads_x ? 1U : 0U) | (s.wants_gradient(0) ? 2U : 0U), .auxiliary = reads_x ? 1U : 0U};
}

}  // namespace

const OpDef global_response_norm_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, name, [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, name, [&]<class T>() { backward<T>(a); });
            }},
};

Tensor global_response_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  return apply(global_response_norm_op, {x, gamma, beta}, GlobalResponseNormAttributes{eps});
}

}  // namespace parabola
