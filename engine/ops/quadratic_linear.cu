// quadratic_linear on CUDA: linear's own product for the linear term, so that it has linear's bits; then the a_j x and
// b_j x, chunk of rows by chunk, as two products of cuBLAS with all ranks in each, which stay in the chip's cache for
// what follows. (One product for all three would need the weights side by side in memory.)
#include "engine/ops/quadratic_linear.h"

#include <algorithm>

#include "engine/ops/affine.cuh"
#include "engine/ops/quadratic_linear_kernels.h"
#include "engine/ops/quadratic_term.cuh"
#include "engine/ops/scratch.h"

namespace parabola {
namespace {

using namespace quadratic_linear_kernels;

// Rows of a chunk. Both variants and both directions cut alike, since cuBLAS chooses the order of a sum by the size of
// a product.
int64_t chunk_rows(const Problem& p) {
  constexpr int64_t elements = 1 << 22;  // of both factors: 16 MiB of floats, two products that fill a chip
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, 2 * p.J * p.K) / 64) * 64;
}

ProductRows product_rows(const Problem& p) { return {.ranks = p.J, .width = p.K, .stride = p.J * p.K}; }

template <class T>
T scale_of(const Attributes& attributes) {
  return static_cast<T>(attributes.get<QuadraticLinearAttributes>().scale);
}

// `count` rows of every a_j x (or b_j x) from row `begin` on.
template <class T>
void device_factor_products(DeviceStream stream, const Problem& p, const TensorView& x, const TensorView& factor,
                            int64_t begin, int64_t count, T* out) {
  device_gemm<T>(stream, count, p.J * p.K, p.C, {x.data<T>() + begin * p.C, p.C}, {factor.data<T>(), p.C, true}, out,
                 p.J * p.K, false);
}

// A chunk's a_j x and b_j x, or their gradients; and what the bias's gradient is added up in.
template <class T>
struct ChunkScratch {
  T *a, *b;
  std::byte* bias;
  ChunkScratch(Scratch& scratch, const Problem& p, bool factors, bool bias_gradient) {
    const int64_t elements = factors ? std::min(chunk_rows(p), p.rows) * p.J * p.K : 0;
    a = scratch.take<T>(elements);
    b = scratch.take<T>(elements);
    bias = scratch.take<std::byte>(bias_gradient ? static_cast<int64_t>(device_bias_gradient_workspace<T>(p.rows, p.K))
                                                 : 0);
  }
};

template <class T>
void device_forward(const ForwardArgs& args) {
  const Problem p(args.inputs[input_x].shape, args.inputs[input_a].shape);
  const TensorView& x = args.inputs[input_x];
  T* y = args.outputs[0].data<T>();
  device_affine<T>(args.stream, p.rows, p.K, p.C, {x.data<T>(), p.C}, {args.inputs[input_weight].data<T>(), p.C, true},
                   args.inputs[input_bias].data<T>(), y);
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, args.variant == 0, false);
  for (int64_t begin = 0; begin < p.rows; begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin), kept = begin * p.J * p.K;
    T* a = args.variant == 1 ? args.auxiliary[0].data<T>() + kept : own.a;
    T* b = args.variant == 1 ? args.auxiliary[1].data<T>() + kept : own.b;
    device_factor_products(args.stream, p, x, args.inputs[input_a], begin, count, a);
    device_factor_products(args.stream, p, x, args.inputs[input_b], begin, count, b);
    launch_on_columns(quadratic_term_forward<T>, args.stream, count, p.K, product_rows(p), a, b,
                      scale_of<T>(args.attributes), y + begin * p.K, true, count, p.K);
  }
}

// The gradients of the factors' parts in one chunk: into `own`, where dx and the factors' gradients are made of them.
template <class T>
void chunk_gradients(const BackwardArgs& args, const Problem& p, int64_t begin, int64_t count,
                     const ChunkScratch<T>& own) {
  const bool da = args.wants(input_x) || args.wants(input_a), db = args.wants(input_x) || args.wants(input_b);
  const T *a = own.a, *b = own.b;
  if (args.variant == 1) {
    a = args.auxiliary[0].data<T>() + begin * p.J * p.K;
    b = args.auxiliary[1].data<T>() + begin * p.J * p.K;
  } else {
    if (db) device_factor_products(args.stream, p, args.inputs[input_x], args.inputs[input_a], begin, count, own.a);
    if (da) device_factor_products(args.stream, p, args.inputs[input_x], args.inputs[input_b], begin, count, own.b);
  }
  launch_on_columns(quadratic_term_backward<T>, args.stream, count, p.K, product_rows(p), a, b,
                    scale_of<T>(args.attributes), args.output_gradients[0].data<T>() + begin * p.K,
                    da ? own.a : nullptr, db ? own.b : nullptr, count, p.K);
}

template <class T>
void device_backward(const BackwardArgs& args) {
  const Problem p(args.inputs[input_x].shape, args.inputs[input_a].shape);
  const int64_t JK = p.J * p.K;
  const T *x = args.inputs[input_x].data<T>(), *dy = args.output_gradients[0].data<T>();
  const bool dx = args.wants(input_x), da = args.wants(input_a), db = args.wants(input_b);
  // C [m, C] = or += op(left) right, all of whose matrices have C columns.
  const auto product = [&](int64_t m, int64_t k, const Factor<T>& left, const T* right, T* out, bool accumulate) {
    device_gemm<T>(args.stream, m, p.C, k, left, {right, p.C}, out, p.C, accumulate);
  };
  const auto input = [&](int i) { return args.inputs[static_cast<size_t>(i)].data<T>(); };
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, p, dx || da || db, args.wants(input_bias));

  for (int64_t begin = 0; (dx || da || db) && (begin == 0 || begin < p.rows); begin += chunk_rows(p)) {
    const int64_t count = std::min(chunk_rows(p), p.rows - begin);
    chunk_gradients(args, p, begin, count, own);
    if (dx) {
      T* out = gradient(input_x) + begin * p.C;
      const T* weight = input(input_weight);
      const bool accumulate = args.accumulates(input_x);
      if (weight) product(count, p.K, {dy + begin * p.K, p.K}, weight, out, accumulate);
      product(count, JK, {own.a, JK}, input(input_a), out, accumulate || weight);
      product(count, JK, {own.b, JK}, input(input_b), out, true);
    }
    const bool more = begin > 0;
    if (da)
      product(JK, count, {own.a, JK, true}, x + begin * p.C, gradient(input_a), more || args.accumulates(input_a));
    if (db)
      product(JK, count, {own.b, JK, true}, x + begin * p.C, gradient(input_b), more || args.accumulates(input_b));
  }
  if (args.wants(input_weight))
    product(p.K, p.rows, {dy, p.K, true}, x, gradient(input_weight), args.accumulates(input_weight));
  if (args.wants(input_bias))
    device_bias_gradient(args.stream, dy, p.rows, p.K, gradient(input_bias), args.accumulates(input_bias), own.bias);
}

size_t workspace(const Signature& s, bool factors, bool bias_gradient) {
  Scratch scratch;
  const Problem p(s.shape(input_x), s.shape(input_a));
  dispatch_float(s.dtype(), "quadratic_linear",
                 [&]<class T>() { ChunkScratch<T>(scratch, p, factors, bias_gradient); });
  return scratch.bytes();
}

size_t device_forward_workspace(const Signature& s) { return workspace(s, s.variant == 0, false); }

size_t device_backward_workspace(const Signature& s) {
  const bool factors = s.wants_gradient(input_x) || s.wants_gradient(input_a) || s.wants_gradient(input_b);
  return workspace(s, factors, s.wants_gradient(input_bias));
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
