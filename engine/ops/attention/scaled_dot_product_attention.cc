#include "engine/ops/attention/scaled_dot_product_attention.h"

#include "engine/blas/gemm.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/attention/sizes.h"
#include "engine/ops/checks.h"
#include "engine/ops/lanes.h"
#include "engine/ops/vector_math.h"

namespace parabola {
namespace {

constexpr const char* name = "scaled_dot_product_attention";

// Queries whose scores a thread has at a time.
constexpr int64_t tile_rows = 64;

AttentionSizes sizes_of(std::span<const TensorView> inputs, const Attributes& attributes) {
  return {inputs[0].shape, inputs[1].shape, inputs[2].shape, attributes};
}

// Softmax of a row of `seen` scores in place, zeros up to `width`; returns l.
template <class T>
T softmax_row(T* row, int64_t seen, int64_t width, T scale) {
  const T largest = *std::max_element(row, row + seen);
  for (int64_t j = 0; j < seen; ++j) row[j] = vector_exp(scale * (row[j] - largest));
  const T sum = lane_sum<T>(seen, [=](int64_t j) { return row[j]; }), share = 1 / sum;
  for (int64_t j = 0; j < seen; ++j) row[j] *= share;
  std::fill(row + seen, row + width, T(0));
  return scale * largest + std::log(sum);
}

template <class T>
void forward(const ForwardArgs& args) {
  const AttentionSizes z = sizes_of(args.inputs, args.attributes);
  const T *q = args.inputs[0].data<T>(), *k = args.inputs[1].data<T>(), *v = args.inputs[2].data<T>();
  T *y = args.outputs[0].data<T>(), *l = args.auxiliary[0].data<T>();
  const Tiles tiles{z.L, tile_rows};
  thread_pool().run(z.count * tiles.number(), [&](int64_t task, int worker) {
    const int64_t n = task / tiles.number(), tile = task % tiles.number(), rows = tiles.length(tile);
    const int64_t query = n * z.L + tiles.begin(tile), keys = z.keys(tiles.end(tile));
    T* p = reinterpret_cast<T*>(args.workspace) + worker * tile_rows * z.S;
    tile_product<T>(rows, keys, z.D, {q + query * z.D, z.D}, {k + n * z.S * z.D, z.D, true}, p, keys, false);
    for (int64_t i = 0; i < rows; ++i)
      l[query + i] = softmax_row(p + i * keys, z.keys(tiles.begin(tile) + i + 1), keys, static_cast<T>(z.scale()));
    tile_product<T>(rows, z.E, keys, {p, keys}, {v + n * z.S * z.E, z.E}, y + query * z.E, z.E, false);
  });
}

// With P the probabilities of some queries:  dv = Pᵀ dy,  dP = dy vᵀ,  dS = P (dP - the row's sum of P dP) / sqrt(D),
// dq = dS k,  dk = dSᵀ q; dk and dv add up over the tiles, in their order, which is one thread's work.
template <class T>
void backward(const BackwardArgs& args) {
  const AttentionSizes z = sizes_of(args.inputs, args.attributes);
  const T *q = args.inputs[0].data<T>(), *k = args.inputs[1].data<T>(), *v = args.inputs[2].data<T>(),
          *l = args.auxiliary[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T *dq = args.input_gradients[0].data<T>(), *dk = args.input_gradients[1].data<T>(),
    *dv = args.input_gradients[2].data<T>();
  const T scale = static_cast<T>(z.scale());
  const Tiles tiles{z.L, tile_rows};
  thread_pool().run(z.count, [&](int64_t n, int worker) {
    T* p = reinterpret_cast<T*>(args.workspace) + worker * 2 * tile_rows * z.S;
    T* ds = p + tile_rows * z.S;
    const Factor<T> keys_of_n{k + n * z.S * z.D, z.D}, values_of_n{v + n * z.S * z.E, z.E, true};
    if (dk && !args.accumulates(1)) std::fill_n(dk + n * z.S * z.D, z.S * z.D, T(0));
    if (dv && !args.accumulates(2)) std::fill_n(dv + n * z.S * z.E, z.S * z.E, T(0));
    for (int64_t tile = 0; tile < tiles.number(); ++tile) {
      const int64_t rows = tiles.length(tile), query = n * z.L + tiles.begin(tile), keys = z.keys(tiles.end(tile));
      const Factor<T> queries{q + query * z.D, z.D}, gradients{dy + query * z.E, z.E};
      tile_product<T>(rows, keys, z.D, queries, {keys_of_n.data, z.D, true}, p, keys, false);
      for (int64_t i = 0; i < rows; ++i) {
        T* row = p + i * keys;
        const int64_t seen = z.keys(tiles.begin(tile) + i + 1);
        // Rounding may bring the largest score above l by a little.
        for (int64_t j = 0; j < seen; ++j) row[j] = vector_exp(scale * row[j] - l[query + i]);
        std::fill(row + seen, row + keys, T(0));
      }
      if (dv) tile_product<T>(keys, z.E, rows, {p, keys, true}, gradients, dv + n * z.S * z.E, z.E, true);
      if (!dq && !dk) continue;
      tile_product<T>(rows, keys, z.E, gradients, values_of_n, ds, keys, false);
      for (int64_t i = 0; i < rows; ++i) {
        T* row = ds + i * keys;
        const T* share = p + i * keys;
        const T dot = lane_sum<T>(keys, [=](int64_t j) { return share[j] * row[j]; });
        for (int64_t j = 0; j < keys; ++j) row[j] = scale * share[j] * (row[j] - dot);
      }
      if (dq) tile_product<T>(rows, z.D, keys, {ds, keys}, keys_of_n, dq + query * z.D, z.D, args.accumulates(0));
      if (dk) tile_product<T>(keys, z.D, rows, {ds, keys, true}, queries, dk + n * z.S * z.D, z.D, true);
    }
  });
}

AttentionSizes checked_sizes(const Signature& s) {
  const Shape &q = s.shape(0), &k = s.shape(1), &v = s.shape(2);
  if (q.rank() < 2 || q[-1] < 1)
    fail<ShapeError>(name, "queries: got ", q, ", expected [..., L, D] with D of at least 1");
  if (k.rank() != q.rank() || k[-2] < 1 || k != q.with(-2, k[-2]))
    fail<ShapeError>(name, "keys: got ", k, " for queries of shape ", q,
                     ", expected the same but for the number of keys, at least one");
  if (v.rank() != q.rank() || v != k.with(-1, v[-1]))
    fail<ShapeError>(name, "values: got ", v, " for keys of shape ", k, ", expected the same but for the last axis");
  require_one_dtype(name, s);
  return {q, k, v, s.attributes};
}

Layout layout(const Signature& s) {
  const AttentionSizes z = checked_sizes(s);
  const Shape y = s.shape(0).with(-1, z.E);
  const size_t scores = static_cast<size_t>(thread_pool().threads() * tile_rows * z.S) * size_of(s.dtype());
  return {.outputs = {{y, s.dtype()}},
          .auxiliary = {{Shape{z.count, z.L}, s.dtype()}},
          .forward_workspace = scores,
          .backward_workspace = 2 * scores};
}

StepCost cost(const Signature& s) {
  const AttentionSizes z = checked_sizes(s);
  int64_t seen = 0;
  for (int64_t i = 0; i < z.L; ++i) seen += z.keys(i + 1);
  const double pairs = static_cast<double>(z.count) * static_cast<double>(seen);
  const double key = 2 * pairs * static_cast<double>(z.D), value = 2 * pairs * static_cast<double>(z.E);
  const auto bytes = [&](int i) { return static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()); };
  const double y = static_cast<double>(layout(s).outputs[0].bytes()), read = bytes(0) + bytes(1);
  StepCost cost{.forward = {key + value, read + bytes(2), y}};
  const bool scores = s.wants_gradient(0) || s.wants_gradient(1);
  cost.backward = {key + (scores ? value : 0), read + y + (scores ? bytes(2) : 0), 0};
  add_backward(cost, s, 0, {key, 0, bytes(0)});
  add_backward(cost, s, 1, {key, 0, bytes(1)});
  add_backward(cost, s, 2, {value, 0, bytes(2)});
  return cost;
}

Needs needs(const Signature& s) {
  return {.inputs = s.wants_gradient(0) || s.wants_gradient(1) ? 7U : 3U, .auxiliary = 1};
}

}  // namespace

const OpDef scaled_dot_product_attention_op = {
    .name = name,
    .layout = layout,
    .cost = cost,
    .needs = needs,
    .optional = 0,
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, name, [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, name, [&]<class T>() { backward<T>(a); });
            }},
};

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal) {
  return apply(scaled_dot_product_attention_op, {q, k, v}, AttentionAttributes{causal});
}

}  // namespace parabola
