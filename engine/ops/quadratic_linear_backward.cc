#include "engine/ops/quadratic_linear_kernels.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/bias.h"
#include "engine/ops/scratch.h"

namespace parabola::quadratic_linear_kernels {
namespace {

// For all rows of a chunk: the a_j x and b_j x, or their gradients; x∘x, or its gradient. And room for gemm.
template <class T>
struct BackwardScratch {
  T *a, *b, *squares, *gemm;
  BackwardScratch(Scratch& scratch, const Problem& p, const Wanted& wanted) {
    const int64_t rows = std::min(p.chunk, p.rows), last = p.rows % p.chunk, JK = p.J * p.K;
    a = scratch.take<T>(wanted.products ? rows * JK : 0);
    b = p.factors() == 2 ? scratch.take<T>(wanted.products ? rows * JK : 0) : a;
    squares = scratch.take<T>(wanted.squares ? rows * p.C : 0);
    int64_t most = 0;
    for (const int64_t part : {rows, last}) {
      if (wanted.x) most = std::max({most, gemm_workspace(part, p.C, p.K), gemm_workspace(part, p.C, JK)});
      if (wanted.a || wanted.b) most = std::max(most, gemm_workspace(JK, p.C, part));
      if (wanted.square) most = std::max(most, gemm_workspace(p.K, p.C, part));
    }
    if (wanted.weight) most = std::max(most, gemm_workspace(p.K, p.C, p.rows));
    if (wanted.bias) most = std::max(most, bias_gradient_workspace(p.rows, p.K));
    gemm = scratch.take<T>(most);
  }
};

// A chunk's gradients of the a_j x and b_j x, into mine.a and mine.b, and of x as the left factor of a form, into dx.
template <class T>
void product_gradients(const Problem& p, const BackwardArgs& args, const Wanted& wanted, const Inputs<T>& in,
                       int64_t begin, int64_t height, const BackwardScratch<T>& mine, T* dx) {
  const T* dy = args.output_gradients[0].data<T>();
  const int64_t JK = p.J * p.K;
  thread_pool().run((height + p.down.size - 1) / p.down.size * p.across.number(), [&](int64_t task, int) {
    const int64_t i = begin + task / p.across.number() * p.down.size, column = task % p.across.number();
    const int64_t j = p.across.begin(column), columns = p.across.length(column);
    const int64_t rows = std::min(p.down.size, begin + height - i), at = (i - begin) * JK + j;
    FactorTile<T> products{mine.a + at, mine.b + at, p.J, JK, p.K}, gradients = products;
    if (args.variant == 1) {
      products = kept_products<T>(p, args, i, j);
    } else {
      if (wanted.a_products) factor_products(p, in.x, in.a, i, rows, j, columns, products.a, products);
      if (wanted.b_products) factor_products(p, in.x, in.b, i, rows, j, columns, products.b, products);
    }
    if (!p.has_a || !(wanted.x || wanted.a)) gradients.a = nullptr;
    if (!p.has_b || !(wanted.x || wanted.b)) gradients.b = nullptr;
    const T* g = dy + i * p.K + j;
    if (p.form())
      form_gradients<T>(rows, columns, {in.x + i * p.C, p.C}, products, in.scale, g, p.K,
                        {dx ? dx + i * p.C : nullptr, p.C}, args.accumulates(input_x), gradients);
    else  // of a square, a∘a, both halves are one
      factor_gradients(rows, columns, products, p.squared() ? 2 * in.scale : in.scale, g, p.K, gradients);
  });
}

}  // namespace

size_t backward_workspace(const Problem& p, DType dtype, uint64_t gradient_mask) {
  Scratch scratch;
  dispatch_float(dtype, "quadratic_linear",
                 [&]<class T>() { BackwardScratch<T>(scratch, p, Wanted(p, gradient_mask)); });
  return scratch.bytes();
}

template <class T>
void backward(const BackwardArgs& args) {
  const Problem p(args);
  const Inputs<T> in(args);
  const Wanted wanted(p, args);
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  const T* dy = args.output_gradients[0].data<T>();
  Scratch scratch(args.workspace);
  const BackwardScratch<T> mine(scratch, p, wanted);

  const bool any = wanted.x || wanted.products || wanted.squares;
  for (int64_t begin = 0; any && (begin == 0 || begin < p.rows); begin += p.chunk) {
    const int64_t height = std::min(p.rows - begin, p.chunk), JK = p.J * p.K;
    const T *rows = in.x + begin * p.C, *dy_rows = dy + begin * p.K;
    T* dx = wanted.x ? gradient(input_x) + begin * p.C : nullptr;
    if (wanted.products)
      product_gradients(p, args, wanted, in, begin, height, mine, wanted.x ? gradient(input_x) : nullptr);
    bool add_to_x = args.accumulates(input_x) || p.form();
    const auto add_input_gradient = [&](int64_t k, const T* left, const T* right) {
      if (!right) return;
      gemm(height, p.C, k, {left, k}, {right, p.C}, dx, add_to_x, mine.gemm);
      add_to_x = true;
    };
    const auto factor_gradient = [&](int i, int64_t k, const T* left, const T* right) {
      gemm(k, p.C, height, {left, k, true}, {right, p.C}, gradient(i), begin > 0 || args.accumulates(i), mine.gemm);
    };
    if (wanted.x) {
      add_input_gradient(p.K, dy_rows, in.weight);
      add_input_gradient(JK, mine.a, in.a);
      add_input_gradient(JK, mine.b, in.b);
    }
    if (wanted.x && in.square) {
      gemm(height, p.C, p.K, {dy_rows, p.K}, {in.square, p.C}, mine.squares, false, mine.gemm);
      parallel_for(height * p.C, 4096, [&](int64_t first, int64_t last) {
        add_square_gradient(last - first, in.scale, rows + first, mine.squares + first, dx + first, add_to_x);
      });
    }
    if (wanted.a) factor_gradient(input_a, JK, mine.a, rows);
    if (wanted.b) factor_gradient(input_b, JK, mine.b, rows);
    if (wanted.square) {
      parallel_for(height * p.C, 4096, [&](int64_t first, int64_t last) {
        scaled_squares(last - first, in.scale, rows + first, mine.squares + first);
      });
      factor_gradient(input_square, p.K, dy_rows, mine.squares);
    }
  }
  if (wanted.weight)
    gemm(p.K, p.C, p.rows, {dy, p.K, true}, {in.x, p.C}, gradient(input_weight), args.accumulates(input_weight),
         mine.gemm);
  if (wanted.bias) bias_gradient(dy, p.rows, p.K, gradient(input_bias), args.accumulates(input_bias), mine.gemm);
}

template void backward<float>(const BackwardArgs&);
template void backward<double>(const BackwardArgs&);

}  // namespace parabola::quadratic_linear_kernels
