// quadratic_linear on CUDA: linear's own product for the linear term, so that it has linear's bits; then, chunk of rows
// by chunk, all a_j x and b_j x as one product of cuBLAS with [a; b], and a kernel that makes y of them while they are
// in the chip's cache (the product's epilogue). Backward is the same in reverse: a kernel makes the products'
// gradients, of which one product makes dx and one da and db. x∘x has products of its own.
#include "engine/ops/quadratic_linear.h"

#include <algorithm>

#include "engine/ops/affine.cuh"
#include "engine/ops/quadratic_linear_kernels.h"
#include "engine/ops/quadratic_patches.cuh"
#include "engine/ops/quadratic_stack.cuh"
#include "engine/ops/scratch.h"

namespace parabola::quadratic_linear_cuda {
namespace {

using namespace quadratic_linear_kernels;
constexpr std::string_view name = "quadratic_linear";

// Rows of a chunk. Both variants and both directions cut alike, since cuBLAS chooses the order of a sum by the size of
// a product; therefore, too, a product is of both factors, whichever gradients are wanted.
int64_t chunk_rows(const Problem& p) {
  constexpr int64_t elements = int64_t{1} << (on_emulated_grid ? 12 : 22);  // 16 MiB of floats, which fill a chip
  const int64_t row = std::max({int64_t{1}, p.width(), p.has_square ? p.C : 0});
  return std::max<int64_t>(1, elements / row / 64) * 64;
}

ProductRows product_rows(const Problem& p) { return {.ranks = p.J, .width = p.K, .stride = p.width()}; }

// Two factors lie apart: what is multiplied is a copy, [a; b]. One is taken as it lies.
KernelStack stack_of(const Problem& p) {
  return {.count = p.factors() == 2 ? 2 : 0, .J = p.J, .K = p.K, .groups = 1, .depth = p.C};
}

// What backward does with the factors: their products again, and dx.
bool recomputes(const Wanted& wanted, int variant) { return variant == 0 && (wanted.a_products || wanted.b_products); }
bool reads_factors(const Wanted& wanted, int variant) {
  return recomputes(wanted, variant) || (wanted.products && wanted.x);
}

// A chunk's products, or their gradients; x∘x, or its gradient; [a; b] and its gradient; and what the bias's gradient
// is added up in. Of forward where `wanted` is null.
template <class T>
struct ChunkScratch {
  T *products, *squares, *factors, *factor_gradients;
  std::byte* bias;
  ChunkScratch(Scratch& scratch, const Problem& p, int variant, const Wanted* wanted) {
    const int64_t rows = std::min(chunk_rows(p), p.rows), stack = stack_of(p).elements();
    products = scratch.take<T>((wanted ? wanted->products : variant == 0) ? rows * p.width() : 0);
    squares = scratch.take<T>((wanted ? wanted->squares : p.has_square) ? rows * p.C : 0);
    factors = scratch.take<T>(!wanted || reads_factors(*wanted, variant) ? stack : 0);
    factor_gradients = scratch.take<T>(wanted && (wanted->a || wanted->b) ? stack : 0);
    const size_t bias_bytes = wanted && wanted->bias ? device_bias_gradient_workspace<T>(p.rows, p.K) : 0;
    bias = scratch.take<std::byte>(static_cast<int64_t>(bias_bytes));
  }
};

// [a; b], or the one factor, null of none.
template <class T>
const T* stacked_factors(DeviceStream stream, const Problem& p, const Inputs<T>& in, const ChunkScratch<T>& own) {
  if (p.factors() < 2) return p.has_a ? in.a : in.b;
  device_stack<T>(stream, stack_of(p), {in.a, in.b}, own.factors);
  return own.factors;
}

// The products of a chunk's x: rows of all a_j x, then all b_j x.
template <class T>
void device_products(DeviceStream stream, const Problem& p, const PatchRows<T>& x, const T* factors, T* products) {
  device_gemm<T>(stream, x.rows, p.width(), p.C, {x.x, p.C}, {factors, p.C, true}, products, p.width(), false);
}

template <class T>
void device_forward(const ForwardArgs& args) {
  const Problem p(args);
  const Inputs<T> in(args);
  T* y = args.outputs[0].data<T>();
  device_affine<T>(args.stream, p.rows, p.K, p.C, {in.x, p.C}, {in.weight, p.C, true}, in.bias, y);
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, args.variant, nullptr);
  const T* factors = stacked_factors(args.stream, p, in, own);
  for (int64_t begin = 0; begin < p.rows; begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin);
    const PatchRows<T> x{in.x + begin * p.C, p.C, 0, 1, count, p.C};
    T* rows = y + begin * p.K;
    if (in.square) {
      device_squares(args.stream, x, in.scale, own.squares);
      device_gemm<T>(args.stream, count, p.K, p.C, {own.squares, p.C}, {in.square, p.C, true}, rows, p.K, true);
    }
    if (p.J == 0) continue;
    const FactorTile<T> f = args.variant == 1 ? kept_products<T>(p, args, begin, 0) : p.tile(own.products);
    device_products(args.stream, p, x, factors, f.a);
    if (p.form())
      launch_on_columns(quadratic_form_forward<T>, args.stream, count, p.K, product_rows(p), x, f.b, in.scale, rows,
                        count, p.K);
    else
      launch_on_columns(quadratic_term_forward<T>, args.stream, count, p.K, product_rows(p), f.a, f.b, in.scale, rows,
                        true, count, p.K);
  }
}

// The gradients of a chunk's products, into own.products, and of x as the left factor of a form, into dx, null where
// not wanted.
template <class T>
void chunk_gradients(const BackwardArgs& args, const Problem& p, const Inputs<T>& in, const Wanted& wanted,
                     const T* factors, int64_t begin, const PatchRows<T>& x, T* dx, const ChunkScratch<T>& own) {
  if (recomputes(wanted, args.variant)) device_products(args.stream, p, x, factors, own.products);
  const FactorTile<T> gradients = p.tile(own.products);
  const FactorTile<T> f = args.variant == 1 ? kept_products<T>(p, args, begin, 0) : gradients;
  const T *dy = args.output_gradients[0].data<T>() + begin * p.K, *a = f.a, *b = f.b;
  if (p.form())
    device_form_backward(args.stream, product_rows(p), x, b, in.scale, dy, dx, args.accumulates(input_x), gradients.b,
                         p.K);
  else  // of a square, a∘a, both halves are one
    launch_on_columns(quadratic_term_backward<T>, args.stream, x.rows, p.K, product_rows(p), a, b,
                      p.squared() ? 2 * in.scale : in.scale, dy, gradients.a, p.squared() ? nullptr : gradients.b,
                      x.rows, p.K);
}

template <class T>
void device_backward(const BackwardArgs& args) {
  const Problem p(args);
  const Inputs<T> in(args);
  const Wanted wanted(p, args);
  const bool two = p.factors() == 2;
  const int only = p.has_a ? input_a : input_b;  // of one
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, args.variant, &wanted);
  const T* factors = reads_factors(wanted, args.variant) ? stacked_factors(args.stream, p, in, own) : nullptr;
  const bool any = wanted.x || wanted.products || wanted.squares;
  for (int64_t begin = 0; any && (begin == 0 || begin < p.rows); begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin);
    const PatchRows<T> x{in.x + begin * p.C, p.C, 0, 1, count, p.C};
    const T* rows = dy + begin * p.K;
    T* dx = wanted.x ? gradient(input_x) + begin * p.C : nullptr;
    if (wanted.products) chunk_gradients(args, p, in, wanted, factors, begin, x, dx, own);
    bool add_to_x = args.accumulates(input_x) || p.form();
    const auto add_input_gradient = [&](int64_t k, const T* left, const T* right) {
      if (!right) return;
      device_gemm<T>(args.stream, count, p.C, k, {left, k}, {right, p.C}, dx, p.C, add_to_x);
      add_to_x = true;
    };
    const auto weight_gradient = [&](int64_t k, const T* left, const T* right, T* out, bool accumulate) {
      device_gemm<T>(args.stream, k, p.C, count, {left, k, true}, {right, p.C}, out, p.C, begin > 0 || accumulate);
    };
    if (wanted.x) {
      add_input_gradient(p.K, rows, in.weight);
      add_input_gradient(p.width(), own.products, factors);
    }
    if (wanted.x && in.square) {
      device_gemm<T>(args.stream, count, p.C, p.K, {rows, p.K}, {in.square, p.C}, own.squares, p.C, false);
      device_squares_backward(args.stream, x, in.scale, own.squares, dx, add_to_x);
    }
    if (wanted.a || wanted.b) {
      T* out = two ? own.factor_gradients : gradient(only);
      weight_gradient(p.width(), own.products, x.x, out, !two && args.accumulates(only));
    }
    if (wanted.square) {
      device_squares(args.stream, x, in.scale, own.squares);
      weight_gradient(p.K, rows, own.squares, gradient(input_square), args.accumulates(input_square));
    }
  }
  if (two && (wanted.a || wanted.b))
    device_unstack<T>(args.stream, stack_of(p), own.factor_gradients, {gradient(input_a), gradient(input_b)},
                      {args.accumulates(input_a), args.accumulates(input_b)});
  if (wanted.weight)
    device_gemm<T>(args.stream, p.K, p.C, p.rows, {dy, p.K, true}, {in.x, p.C}, gradient(input_weight), p.C,
                   args.accumulates(input_weight));
  if (wanted.bias)
    device_bias_gradient(args.stream, dy, p.rows, p.K, gradient(input_bias), args.accumulates(input_bias), own.bias);
}

size_t workspace(const Signature& s, const Problem& p, const Wanted* wanted) {
  Scratch scratch;
  dispatch_float(s.dtype(), name, [&]<class T>() { ChunkScratch<T>(scratch, p, s.variant, wanted); });
  return scratch.bytes();
}
size_t device_forward_workspace(const Signature& s) { return workspace(s, Problem(s), nullptr); }
size_t device_backward_workspace(const Signature& s) {
  const Problem p(s);
  const Wanted wanted(p, s.gradient_mask);
  return workspace(s, p, &wanted);
}

const CudaKernels registered(quadratic_linear_op,
                             {.kernels = {[](const ForwardArgs& a) {
                                            dispatch_float(a.inputs[0].dtype, name,
                                                           [&]<class T>() { device_forward<T>(a); });
                                          },
                                          [](const BackwardArgs& a) {
                                            dispatch_float(a.output_gradients[0].dtype, name,
                                                           [&]<class T>() { device_backward<T>(a); });
                                          }},
                              .forward_workspace = device_forward_workspace,
                              .backward_workspace = device_backward_workspace});

}  // namespace
}  // namespace parabola::quadratic_linear_cuda
