#include "engine/ops/quadratic_linear_kernels.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/bias.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/quadratic_term.h"
#include "engine/ops/scratch.h"

namespace parabola::quadratic_linear_kernels {
namespace {

// Rows [i, i + rows), columns [j, j + columns) of every a_j x, or b_j x: in one product where the columns are all.
template <class T>
void factor_products(const Problem& p, const T* x, const T* factor, int64_t i, int64_t rows, int64_t j, int64_t columns,
                     T* out, const FactorTile<T>& strides) {
  const bool stacked = columns == p.K;
  for (int64_t rank = 0; rank < (stacked ? 1 : p.J); ++rank)
    tile_product(rows, stacked ? p.J * p.K : columns, p.C, {x + i * p.C, p.C},
                 {factor + (rank * p.K + j) * p.C, p.C, true}, out + rank * strides.rank_stride, strides.row_stride,
                 false);
}

// A worker's scratch in forward: tiles of the a_j x and b_j x (unless they are kept), and a row of q.
template <class T>
struct ForwardScratch {
  T *a, *b, *q;
  ForwardScratch(Scratch& scratch, const Problem& p, int variant) {
    const int64_t columns = std::min(p.across.size, p.K), elements = variant == 0 ? p.down.size * p.J * columns : 0;
    a = scratch.take<T>(elements);
    b = scratch.take<T>(elements);
    q = scratch.take<T>(columns);
  }
};

template <class T>
size_t worker_bytes_of(const Problem& p, int variant) {
  Scratch scratch;
  ForwardScratch<T>(scratch, p, variant);
  return scratch.bytes();
}

// The a_j x and b_j x of all rows of `chunk`, or their gradients, and room for gemm.
template <class T>
struct BackwardScratch {
  T *a = nullptr, *b = nullptr, *gemm;
  template <class Wants>
  BackwardScratch(Scratch& scratch, const Problem& p, Wants&& wants) {
    const bool factors = wants(input_a) || wants(input_b);
    const int64_t rows = std::min(p.chunk, p.rows), last = p.rows % p.chunk, JK = p.J * p.K;
    if (wants(input_x) || factors) a = scratch.take<T>(rows * JK), b = scratch.take<T>(rows * JK);
    int64_t most = 0;
    for (const int64_t part : {rows, last}) {
      if (wants(input_x)) most = std::max({most, gemm_workspace(part, p.C, p.K), gemm_workspace(part, p.C, JK)});
      if (factors) most = std::max(most, gemm_workspace(JK, p.C, part));
    }
    if (wants(input_weight)) most = std::max(most, gemm_workspace(p.K, p.C, p.rows));
    if (wants(input_bias)) most = std::max(most, bias_gradient_workspace(p.rows, p.K));
    gemm = scratch.take<T>(most);
  }
};

}  // namespace

size_t forward_workspace(const Problem& p, DType dtype, int variant) {
  size_t bytes = 0;
  dispatch_float(dtype, "quadratic_linear", [&]<class T>() { bytes = worker_bytes_of<T>(p, variant); });
  return static_cast<size_t>(thread_pool().threads()) * bytes;
}

size_t backward_workspace(const Problem& p, DType dtype, uint64_t gradient_mask) {
  Scratch scratch;
  dispatch_float(dtype, "quadratic_linear",
                 [&]<class T>() { BackwardScratch<T>(scratch, p, [&](int i) { return gradient_mask >> i & 1; }); });
  return scratch.bytes();
}

template <class T>
void forward(const ForwardArgs& args) {
  const Problem p(args.inputs[input_x].shape, args.inputs[input_a].shape);
  const auto input = [&](int i) { return args.inputs[static_cast<size_t>(i)].data<T>(); };
  const T *x = input(input_x), *weight = input(input_weight), *bias = input(input_bias);
  const T scale = static_cast<T>(args.attributes.get<QuadraticLinearAttributes>().scale);
  const size_t worker_bytes = worker_bytes_of<T>(p, args.variant);
  thread_pool().run(p.down.number() * p.across.number(), [&](int64_t task, int worker) {
    const int64_t row = task / p.across.number(), column = task % p.across.number();
    const int64_t i = p.down.begin(row), rows = p.down.length(row), j = p.across.begin(column);
    const int64_t columns = p.across.length(column);
    T* y = args.outputs[0].data<T>() + i * p.K + j;
    affine_tile(rows, columns, weight ? p.C : 0, {x + i * p.C, p.C}, {weight ? weight + j * p.C : x, p.C, true},
                bias ? bias + j : nullptr, y, p.K);
    Scratch scratch(args.workspace + static_cast<size_t>(worker) * worker_bytes);
    const ForwardScratch<T> mine(scratch, p, args.variant);
    FactorTile<T> tile{mine.a, mine.b, p.J, p.J * columns, columns};
    if (args.variant == 1) {
      const int64_t at = i * p.J * p.K + j;
      tile = {args.auxiliary[0].data<T>() + at, args.auxiliary[1].data<T>() + at, p.J, p.J * p.K, p.K};
    }
    factor_products(p, x, input(input_a), i, rows, j, columns, tile.a, tile);
    factor_products(p, x, input(input_b), i, rows, j, columns, tile.b, tile);
    add_quadratic_term(rows, columns, tile, scale, y, p.K, mine.q);
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const Problem p(args.inputs[input_x].shape, args.inputs[input_a].shape);
  const auto input = [&](int i) { return args.inputs[static_cast<size_t>(i)].data<T>(); };
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  const T scale = static_cast<T>(args.attributes.get<QuadraticLinearAttributes>().scale);
  const bool da = args.wants(input_a), db = args.wants(input_b), dx = args.wants(input_x);
  const int64_t JK = p.J * p.K;
  const T *x = input(input_x), *dy = args.output_gradients[0].data<T>();
  Scratch scratch(args.workspace);
  const BackwardScratch<T> mine(scratch, p, [&](int i) { return args.wants(i); });

  for (int64_t begin = 0; (dx || da || db) && (begin == 0 || begin < p.rows); begin += p.chunk) {
    const int64_t end = std::min(p.rows, begin + p.chunk), height = end - begin;
    thread_pool().run((height + p.down.size - 1) / p.down.size * p.across.number(), [&](int64_t task, int) {
      const int64_t i = begin + task / p.across.number() * p.down.size, column = task % p.across.number();
      const int64_t j = p.across.begin(column), columns = p.across.length(column),
                    rows = std::min(p.down.size, end - i);
      const int64_t at = (i - begin) * JK + j;
      FactorTile<T> products{mine.a + at, mine.b + at, p.J, JK, p.K}, gradients = products;
      if (args.variant == 1) {
        products.a = args.auxiliary[0].data<T>() + i * JK + j;
        products.b = args.auxiliary[1].data<T>() + i * JK + j;
      } else {
        if (dx || db) factor_products(p, x, input(input_a), i, rows, j, columns, products.a, products);
        if (dx || da) factor_products(p, x, input(input_b), i, rows, j, columns, products.b, products);
      }
      if (!dx && !da) gradients.a = nullptr;
      if (!dx && !db) gradients.b = nullptr;
      factor_gradients(rows, columns, products, scale, dy + i * p.K + j, p.K, gradients);
    });
    const bool more = begin > 0;
    if (dx) {
      T* out = gradient(input_x) + begin * p.C;
      const T* weight = input(input_weight);
      bool accumulate = args.accumulates(input_x);
      if (weight) gemm(height, p.C, p.K, {dy + begin * p.K, p.K}, {weight, p.C}, out, accumulate, mine.gemm);
      gemm(height, p.C, JK, {mine.a, JK}, {input(input_a), p.C}, out, accumulate || weight, mine.gemm);
      gemm(height, p.C, JK, {mine.b, JK}, {input(input_b), p.C}, out, true, mine.gemm);
    }
    const Factor<T> rows{x + begin * p.C, p.C};
    if (da)
      gemm(JK, p.C, height, {mine.a, JK, true}, rows, gradient(input_a), more || args.accumulates(input_a), mine.gemm);
    if (db)
      gemm(JK, p.C, height, {mine.b, JK, true}, rows, gradient(input_b), more || args.accumulates(input_b), mine.gemm);
  }
  if (args.wants(input_weight))
    gemm(p.K, p.C, p.rows, {dy, p.K, true}, {x, p.C}, gradient(input_weight), args.accumulates(input_weight),
         mine.gemm);
  if (args.wants(input_bias))
    bias_gradient(dy, p.rows, p.K, gradient(input_bias), args.accumulates(input_bias), mine.gemm);
}

template void forward<float>(const ForwardArgs&);
template void forward<double>(const ForwardArgs&);
template void backward<float>(const BackwardArgs&);
template void backward<double>(const BackwardArgs&);

}  // namespace parabola::quadratic_linear_kernels
