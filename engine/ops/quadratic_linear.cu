// quadratic_linear on CUDA: linear's own product for the linear term, so that it has linear's bits; then, chunk of rows
// by chunk, the a_j x and b_j x as two products of cuBLAS with all ranks in each, which stay in the chip's cache for
// what follows, and x∘x. (One product for all three would need the weights side by side in memory.)
#include "engine/ops/quadratic_linear.h"

#include <algorithm>

#include "engine/ops/affine.cuh"
#include "engine/ops/quadratic_linear_kernels.h"
#include "engine/ops/quadratic_patches.cuh"
#include "engine/ops/scratch.h"

namespace parabola {
namespace {

using namespace quadratic_linear_kernels;

// Rows of a chunk. Both variants and both directions cut alike, since cuBLAS chooses the order of a sum by the size of
// a product.
int64_t chunk_rows(const Problem& p) {
  constexpr int64_t elements = int64_t{1}
                               << (on_emulated_grid ? 12 : 22);  // 16 MiB of floats: products that fill a chip
  const int64_t row = std::max({int64_t{1}, p.factors() * p.J * p.K, p.has_square ? p.C : 0});
  return std::max<int64_t>(1, elements / row / 64) * 64;
}

ProductRows product_rows(const Problem& p) { return {.ranks = p.J, .width = p.K, .stride = p.J * p.K}; }

// `count` rows of every a_j x (or b_j x), from those of x.
template <class T>
void device_factor_products(DeviceStream stream, const Problem& p, const T* x, const T* factor, int64_t count, T* out) {
  device_gemm<T>(stream, count, p.J * p.K, p.C, {x, p.C}, {factor, p.C, true}, out, p.J * p.K, false);
}

// A chunk's a_j x and b_j x, or their gradients (of one factor, a and b are the same place); x∘x, or its gradient; and
// what the bias's gradient is added up in.
template <class T>
struct ChunkScratch {
  T *a, *b, *squares;
  std::byte* bias;
  ChunkScratch(Scratch& scratch, const Problem& p, bool factors, bool with_squares, bool bias_gradient) {
    const int64_t rows = std::min(chunk_rows(p), p.rows), elements = factors ? rows * p.J * p.K : 0;
    a = scratch.take<T>(elements);
    b = p.factors() == 2 ? scratch.take<T>(elements) : a;
    squares = scratch.take<T>(with_squares ? rows * p.C : 0);
    bias = scratch.take<std::byte>(bias_gradient ? static_cast<int64_t>(device_bias_gradient_workspace<T>(p.rows, p.K))
                                                 : 0);
  }
};

template <class T>
void device_forward(const ForwardArgs& args) {
  const Problem p(args);
  const Inputs<T> in(args);
  T* y = args.outputs[0].data<T>();
  device_affine<T>(args.stream, p.rows, p.K, p.C, {in.x, p.C}, {in.weight, p.C, true}, in.bias, y);
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, args.variant == 0, p.has_square, false);
  for (int64_t begin = 0; begin < p.rows; begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin);
    const PatchRows<T> x{in.x + begin * p.C, p.C, 0, 1, count, p.C};
    T* rows = y + begin * p.K;
    if (in.square) {
      device_squares(args.stream, x, in.scale, own.squares);
      device_gemm<T>(args.stream, count, p.K, p.C, {own.squares, p.C}, {in.square, p.C, true}, rows, p.K, true);
    }
    if (p.J == 0) continue;
    FactorTile<T> f{own.a, own.b};
    if (args.variant == 1) f = kept_products<T>(p, args, begin, 0);
    if (in.a) device_factor_products(args.stream, p, x.x, in.a, count, f.a);
    if (in.b) device_factor_products(args.stream, p, x.x, in.b, count, f.b);
    if (p.form())
      launch_on_columns(quadratic_form_forward<T>, args.stream, count, p.K, product_rows(p), x, f.b, in.scale, rows,
                        count, p.K);
    else
      launch_on_columns(quadratic_term_forward<T>, args.stream, count, p.K, product_rows(p), f.a, f.b, in.scale, rows,
                        true, count, p.K);
  }
}

// The gradients of the factors' parts in one chunk: into `own`, where dx and the factors' gradients are made of them.
// Those of x as the left factor of a form: into dx, null where not wanted.
template <class T>
void chunk_gradients(const BackwardArgs& args, const Problem& p, const Inputs<T>& in, const Wanted& wanted,
                     int64_t begin, const PatchRows<T>& x, T* dx, const ChunkScratch<T>& own) {
  const bool da = p.has_a && (wanted.x || wanted.a), db = p.has_b && (wanted.x || wanted.b);
  FactorTile<T> f{own.a, own.b};
  if (args.variant == 1) {
    f = kept_products<T>(p, args, begin, 0);
  } else {
    if (wanted.a_products) device_factor_products(args.stream, p, x.x, in.a, x.rows, f.a);
    if (wanted.b_products) device_factor_products(args.stream, p, x.x, in.b, x.rows, f.b);
  }
  const T *dy = args.output_gradients[0].data<T>() + begin * p.K, *a = f.a, *b = f.b;
  if (p.form())
    device_form_backward(args.stream, product_rows(p), x, b, in.scale, dy, dx, args.accumulates(input_x), own.b, p.K);
  else  // of a square, a∘a, both halves are one
    launch_on_columns(quadratic_term_backward<T>, args.stream, x.rows, p.K, product_rows(p), a, b,
                      p.squared() ? 2 * in.scale : in.scale, dy, da ? own.a : nullptr, db ? own.b : nullptr, x.rows,
                      p.K);
}

template <class T>
void device_backward(const BackwardArgs& args) {
  const Problem p(args);
  const Inputs<T> in(args);
  const Wanted wanted(p, args);
  const int64_t JK = p.J * p.K;
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, wanted.products, wanted.squares, wanted.bias);

  const bool any = wanted.x || wanted.products || wanted.squares;
  for (int64_t begin = 0; any && (begin == 0 || begin < p.rows); begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin);
    const PatchRows<T> x{in.x + begin * p.C, p.C, 0, 1, count, p.C};
    const T* rows = dy + begin * p.K;
    T* dx = wanted.x ? gradient(input_x) + begin * p.C : nullptr;
    if (wanted.products) chunk_gradients(args, p, in, wanted, begin, x, dx, own);
    bool add_to_x = args.accumulates(input_x) || p.form();
    const auto add_input_gradient = [&](int64_t k, const T* left, const T* right) {
      if (!right) return;
      device_gemm<T>(args.stream, count, p.C, k, {left, k}, {right, p.C}, dx, p.C, add_to_x);
      add_to_x = true;
    };
    const auto factor_gradient = [&](int i, int64_t k, const T* left, const T* right) {
      device_gemm<T>(args.stream, k, p.C, count, {left, k, true}, {right, p.C}, gradient(i), p.C,
                     begin > 0 || args.accumulates(i));
    };
    if (wanted.x) {
      add_input_gradient(p.K, rows, in.weight);
      add_input_gradient(JK, own.a, in.a);
      add_input_gradient(JK, own.b, in.b);
    }
    if (wanted.x && in.square) {
      device_gemm<T>(args.stream, count, p.C, p.K, {rows, p.K}, {in.square, p.C}, own.squares, p.C, false);
      device_squares_backward(args.stream, x, in.scale, own.squares, dx, add_to_x);
    }
    if (wanted.a) factor_gradient(input_a, JK, own.a, x.x);
    if (wanted.b) factor_gradient(input_b, JK, own.b, x.x);
    if (wanted.square) {
      device_squares(args.stream, x, in.scale, own.squares);
      factor_gradient(input_square, p.K, rows, own.squares);
    }
  }
  if (wanted.weight)
    device_gemm<T>(args.stream, p.K, p.C, p.rows, {dy, p.K, true}, {in.x, p.C}, gradient(input_weight), p.C,
                   args.accumulates(input_weight));
  if (wanted.bias)
    device_bias_gradient(args.stream, dy, p.rows, p.K, gradient(input_bias), args.accumulates(input_bias), own.bias);
}

size_t workspace(const Signature& s, const Problem& p, bool factors, bool squares, bool bias_gradient) {
  Scratch scratch;
  dispatch_float(s.dtype(), "quadratic_linear",
                 [&]<class T>() { ChunkScratch<T>(scratch, p, factors, squares, bias_gradient); });
  return scratch.bytes();
}

size_t device_forward_workspace(const Signature& s) {
  const Problem p(s);
  return workspace(s, p, s.variant == 0, p.has_square, false);
}

size_t device_backward_workspace(const Signature& s) {
  const Problem p(s);
  const Wanted wanted(p, s.gradient_mask);
  return workspace(s, p, wanted.products, wanted.squares, wanted.bias);
}

const CudaKernels registered(quadratic_linear_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, "quadratic_linear",
                                                           [&]<class T>() { device_forward<T>(a); });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.output_gradients[0].dtype, "quadratic_linear",
                                                           [&]<class T>() { device_backward<T>(a); });
                                          }},
                              .forward_workspace = device_forward_workspace,
                              .backward_workspace = device_backward_workspace});

}  // namespace
}  // namespace parabola
