// scaled_dot_product_attention on CUDA: some queries of all attentions at a time, by cuBLAS's batched products and
// kernels in between that take a warp to a row. The formulas are in scaled_dot_product_attention.cc.
#include "engine/ops/attention/scaled_dot_product_attention.h"

#include "engine/blas/gemm.cuh"
#include "engine/ops/attention/sizes.h"
#include "engine/ops/rows.cuh"
#include "engine/ops/walk.cuh"

namespace parabola::scaled_dot_product_attention_cuda {
namespace {

// Queries [begin, begin + rows) of every attention, and the keys that the last of them sees. Scores are [rows, keys].
struct QueryTile {
  AttentionSizes z;
  int64_t begin, rows, keys;

  __device__ int64_t query(int64_t row) const { return row / rows * z.L + begin + row % rows; }  // of all queries
  __device__ int64_t seen(int64_t row) const { return z.keys(begin + row % rows + 1); }
};

// As many as give some 16 million scores, at least 64: few launches, and a workspace that does not grow with L S.
int64_t tile_rows(const AttentionSizes& z) {
  constexpr int64_t most = on_emulated_grid ? 1 << 6 : 1 << 24, least = on_emulated_grid ? 3 : 64;
  return std::min(z.L, std::max(least, most / std::max<int64_t>(1, z.count * z.S)));
}

template <class Work>
void each_tile(const AttentionSizes& z, Work&& work) {
  const int64_t step = std::max<int64_t>(1, tile_rows(z));
  for (int64_t begin = 0; begin < z.L; begin += step) {
    const int64_t rows = std::min(step, z.L - begin);
    work(QueryTile{z, begin, rows, z.keys(begin + rows)});
  }
}

template <class T>
__global__ void attention_softmax(QueryTile tile, T* scores, T* l, T scale) {
  for (int64_t row = first_row(); row < tile.z.count * tile.rows; row += row_step()) {
    T* p = scores + row * tile.keys;
    const int64_t seen = tile.seen(row);
    T largest = p[0];
    for (int64_t j = lane_index(); j < seen; j += warp_size) largest = Max()(p[j], largest);
    largest = warp_reduce(largest, Max());
    const T sum = row_sum<T>(seen, [=](int64_t j) { return std::exp(scale * (p[j] - largest)); });
    for (int64_t j = lane_index(); j < tile.keys; j += warp_size)
      p[j] = j < seen ? std::exp(scale * (p[j] - largest)) / sum : T(0);
    if (lane_index() == 0) l[tile.query(row)] = scale * largest + std::log(sum);
  }
}

template <class T>
__global__ void attention_probabilities(QueryTile tile, const T* l, T* scores, T scale) {
  for (int64_t row = first_row(); row < tile.z.count * tile.rows; row += row_step()) {
    T* p = scores + row * tile.keys;
    const int64_t seen = tile.seen(row);
    const T log_sum = l[tile.query(row)];
    for (int64_t j = lane_index(); j < tile.keys; j += warp_size)
      p[j] = j < seen ? std::exp(scale * p[j] - log_sum) : T(0);
  }
}

// ds: dP on entry.
template <class T>
__global__ void attention_score_gradient(QueryTile tile, const T* probabilities, T* gradients, T scale) {
  for (int64_t row = first_row(); row < tile.z.count * tile.rows; row += row_step()) {
    const T* p = probabilities + row * tile.keys;
    T* ds = gradients + row * tile.keys;
    const T dot = row_sum<T>(tile.keys, [=](int64_t j) { return p[j] * ds[j]; });
    for (int64_t j = lane_index(); j < tile.keys; j += warp_size) ds[j] = scale * p[j] * (ds[j] - dot);
  }
}

// The products of one tile, of all attentions at once. `scores` [count][rows][keys]; `queries` and `gradients` are
// tensors of L rows, `keys` and `values` of S.
template <class T>
struct Products {
  DeviceStream stream;
  QueryTile t;

  // scores = rows of `queries` times all of `keys`
  void scores(const T* queries, const T* keys, int64_t width, T* to) const {
    device_gemm_batched<T>(stream, t.z.count, t.rows, t.keys, width, {queries + t.begin * width, width}, t.z.L * width,
                           {keys, width, true}, t.z.S * width, to, t.keys, t.rows * t.keys, false);
  }
  // rows of `to` = scores times `keys`
  void mix(const T* scores, const T* keys, int64_t width, T* to, bool accumulate) const {
    device_gemm_batched<T>(stream, t.z.count, t.rows, width, t.keys, {scores, t.keys}, t.rows * t.keys, {keys, width},
                           t.z.S * width, to + t.begin * width, width, t.z.L * width, accumulate);
  }
  // `to`, of the keys, += scores transposed times rows of `queries`
  void collect(const T* scores, const T* queries, int64_t width, T* to) const {
    device_gemm_batched<T>(stream, t.z.count, t.keys, width, t.rows, {scores, t.keys, true}, t.rows * t.keys,
                           {queries + t.begin * width, width}, t.z.L * width, to, width, t.z.S * width, true);
  }
};

template <class T>
void forward(const ForwardArgs& args) {
  const AttentionSizes z(args.inputs[0].shape, args.inputs[1].shape, args.inputs[2].shape, args.attributes);
  T* scores = reinterpret_cast<T*>(args.workspace);
  each_tile(z, [&](const QueryTile& tile) {
    const Products<T> products{args.stream, tile};
    products.scores(args.inputs[0].data<T>(), args.inputs[1].data<T>(), z.D, scores);
    launch(attention_softmax<T>, blocks_for_rows(z.count * tile.rows), block_size, 0, args.stream, tile, scores,
           args.auxiliary[0].data<T>(), static_cast<T>(z.scale()));
    products.mix(scores, args.inputs[2].data<T>(), z.E, args.outputs[0].data<T>(), false);
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const AttentionSizes z(args.inputs[0].shape, args.inputs[1].shape, args.inputs[2].shape, args.attributes);
  const T *q = args.inputs[0].data<T>(), *k = args.inputs[1].data<T>(), *dy = args.output_gradients[0].data<T>();
  T *dk = args.input_gradients[1].data<T>(), *dv = args.input_gradients[2].data<T>();
  if (dk && !args.accumulates(1)) device_clear(args.stream, dk, z.count * z.S * z.D);
  if (dv && !args.accumulates(2)) device_clear(args.stream, dv, z.count * z.S * z.E);
  T *p = reinterpret_cast<T*>(args.workspace), *ds = p + z.count * tile_rows(z) * z.S;
  const T scale = static_cast<T>(z.scale());
  each_tile(z, [&](const QueryTile& tile) {
    const Products<T> products{args.stream, tile};
    products.scores(q, k, z.D, p);
    launch(attention_probabilities<T>, blocks_for_rows(z.count * tile.rows), block_size, 0, args.stream, tile,
           args.auxiliary[0].data<T>(), p, scale);
    if (dv) products.collect(p, dy, z.E, dv);
    if (!args.wants(0) && !dk) return;
    products.scores(dy, args.inputs[2].data<T>(), z.E, ds);
    launch(attention_score_gradient<T>, blocks_for_rows(z.count * tile.rows), block_size, 0, args.stream, tile, p, ds,
           scale);
    if (args.wants(0)) products.mix(ds, k, z.D, args.input_gradients[0].data<T>(), args.accumulates(0));
    if (dk) products.collect(ds, q, z.D, dk);
  });
}

size_t scores_bytes(const Signature& s) {
  const AttentionSizes z(s.shape(0), s.shape(1), s.shape(2), s.attributes);
  return static_cast<size_t>(z.count * tile_rows(z) * z.S) * size_of(s.dtype());
}

const CudaKernels registered(scaled_dot_product_attention_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "scaled_dot_product_attention",
                                                           [&]<class T>() { forward<T>(a); });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.output_gradients[0].dtype, "scaled_dot_product_attention",
                                                           [&]<class T>() { backward<T>(a); });
                                          }},
                              .forward_workspace = scores_bytes,
                              .backward_workspace = [](const Signature& s) { return 2 * scores_bytes(s); }});

}  // namespace
}  // namespace parabola::scaled_dot_product_attention_cuda
