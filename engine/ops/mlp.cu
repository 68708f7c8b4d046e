// mlp on CUDA: cuBLAS's products, and gelu on the hidden values of a chunk of rows while they are in the chip's cache.
#include "engine/ops/affine.cuh"
#include "engine/ops/mlp_kernels.cuh"
#include "engine/ops/mlp_kernels.h"
#include "engine/ops/scratch.h"

namespace parabola::mlp_cuda {
namespace {

using namespace mlp_kernels;

// Both variants and both directions cut alike, since cuBLAS chooses the order of a sum by the size of a product.
int64_t chunk_rows(const Sizes& n) {
  constexpr int64_t elements = int64_t{1} << (on_emulated_grid ? 12 : 23);  // 32 MiB of floats, which fill a chip
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, n.H) / 64) * 64;
}

// A chunk's hidden values, and their gradients; of a scaled layer dy times the scale for a chunk, dyᵀ h and dy's column
// sums; what the biases' gradients are added up in. Of forward where `wanted` is null.
template <class T>
struct ChunkScratch {
  T *hidden, *gradients, *scaled, *product, *totals;
  std::byte* bias;
  ChunkScratch(Scratch& scratch, const Sizes& n, int variant, const Wanted* wanted, bool has_scale = false) {
    const int64_t rows = std::min(chunk_rows(n), n.rows), last = n.rows % chunk_rows(n);
    hidden = scratch.take<T>(!wanted || wanted->product || wanted->recomputes(variant) ? rows * n.H : 0);
    scaled = scratch.take<T>(has_scale && wanted->hidden ? rows * n.K : 0);
    product = scratch.take<T>(has_scale && wanted->product ? n.K * n.H : 0);
    totals = scratch.take<T>(has_scale ? n.K : 0);
    gradients = scratch.take<T>(wanted && wanted->hidden ? rows * n.H : 0);
    size_t bytes = 0;
    if (wanted && wanted->bias1)  // fewer rows may be cut into more parts
      bytes = std::max(device_bias_gradient_workspace<T>(rows, n.H), device_bias_gradient_workspace<T>(last, n.H));
    if (wanted && (wanted->bias2 || wanted->scale))
      bytes = std::max(bytes, device_bias_gradient_workspace<T>(n.rows, n.K));
    bias = scratch.take<std::byte>(static_cast<int64_t>(bytes));
  }
};

template <class T>
void forward(const ForwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, n, args.variant, nullptr);
  for (int64_t begin = 0; begin < n.rows; begin += chunk_rows(n)) {
    const int64_t rows = std::min(chunk_rows(n), n.rows - begin), count = rows * n.H;
    T* u = args.variant == 1 ? args.auxiliary[0].data<T>() + begin * n.H : own.hidden;
    device_affine<T>(args.stream, rows, n.H, n.C, {in.x + begin * n.C, n.C}, {in.weight1, n.C, true}, in.bias1, u);
    launch(mlp_gelu<T>, blocks_for(count), block_size, 0, args.stream, u, own.hidden, static_cast<T*>(nullptr), count);
    T* y = args.outputs[0].data<T>() + begin * n.K;
    device_affine<T>(args.stream, rows, n.K, n.H, {own.hidden, n.H}, {in.weight2, n.H, true}, in.bias2, y);
    const T* residual = in.residual ? in.residual + begin * n.K : nullptr;
    if (in.scale || residual)
      launch_on_columns(mlp_finish<T>, args.stream, rows, n.K, in.scale, residual, y, rows, n.K);
  }
}

template <class T>
void backward(const BackwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  const Wanted wanted = wanted_of(args);
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const bool has_scale = in.scale != nullptr;
  const ChunkScratch<T> own(scratch, n, args.variant, &wanted, has_scale);
  T* dy_h = has_scale ? own.product : wanted.weight2 ? gradient(input_weight2) : nullptr;
  for (int64_t begin = 0; wanted.any() && (begin == 0 || begin < n.rows); begin += chunk_rows(n)) {
    const int64_t rows = std::min(chunk_rows(n), n.rows - begin), count = rows * n.H;
    const T *x = in.x ? in.x + begin * n.C : nullptr, *dy_rows = dy + begin * n.K;
    T *u = args.variant == 1 ? args.auxiliary[0].data<T>() + begin * n.H : own.hidden, *du = own.gradients;
    if (wanted.recomputes(args.variant))
      device_affine<T>(args.stream, rows, n.H, n.C, {x, n.C}, {in.weight1, n.C, true}, in.bias1, u);
    if (has_scale && wanted.hidden)
      launch_on_columns(mlp_scale_rows<T>, args.stream, rows, n.K, in.scale, dy_rows, own.scaled, rows, n.K);
    if (wanted.hidden)
      device_gemm<T>(args.stream, rows, n.H, n.K, {has_scale ? own.scaled : dy_rows, n.K}, {in.weight2, n.H}, du, n.H,
                     false);
    if (count > 0)
      launch(mlp_gelu<T>, blocks_for(count), block_size, 0, args.stream, u, wanted.product ? own.hidden : nullptr,
             wanted.hidden ? du : nullptr, count);
    const auto adds = [&](int i) { return begin > 0 || args.accumulates(i); };
    if (wanted.x)
      device_gemm<T>(args.stream, rows, n.C, n.H, {du, n.H}, {in.weight1, n.C}, gradient(input_x) + begin * n.C, n.C,
                     args.accumulates(input_x));
    if (wanted.weight1)
      device_gemm<T>(args.stream, n.H, n.C, rows, {du, n.H, true}, {x, n.C}, gradient(input_weight1), n.C,
                     adds(input_weight1));
    if (wanted.product)
      device_gemm<T>(args.stream, n.K, n.H, rows, {dy_rows, n.K, true}, {own.hidden, n.H}, dy_h, n.H,
                     has_scale ? begin > 0 : adds(input_weight2));
    if (wanted.bias1)
      device_bias_gradient(args.stream, du, rows, n.H, gradient(input_bias1), adds(input_bias1), own.bias);
  }
  if (has_scale) {
    if (wanted.bias2 || wanted.scale) device_bias_gradient(args.stream, dy, n.rows, n.K, own.totals, false, own.bias);
    const auto of = [&](int i) { return args.wants(i) ? gradient(i) : nullptr; };
    const ScaledGradients<T> to{of(input_weight2),
                                of(input_bias2),
                                of(input_scale),
                                args.accumulates(input_weight2),
                                args.accumulates(input_bias2),
                                args.accumulates(input_scale)};
    launch(mlp_finish_scaled<T>, blocks_for(n.K, 1), block_size, block_size / warp_size * sizeof(T), args.stream,
           in.scale, in.weight2, in.bias2, own.product, own.totals, to, n.K, n.H);
  } else if (wanted.bias2) {
    device_bias_gradient(args.stream, dy, n.rows, n.K, gradient(input_bias2), args.accumulates(input_bias2), own.bias);
  }
  if (T* d = wanted.residual ? gradient(input_residual) : nullptr; d && d != dy)
    launch(mlp_residual_gradient<T>, blocks_for(n.rows * n.K), block_size, 0, args.stream, dy, d,
           args.accumulates(input_residual), n.rows * n.K);
}

size_t forward_bytes(const Signature& s) {
  Scratch scratch;
  dispatch_float(s.dtype(), mlp_op.name, [&]<class T>() { ChunkScratch<T>(scratch, Sizes(s), s.variant, nullptr); });
  return scratch.bytes();
}

size_t backward_bytes(const Signature& s) {
  const Wanted wanted = wanted_of(s);
  Scratch scratch;
  dispatch_float(s.dtype(), mlp_op.name,
                 [&]<class T>() { ChunkScratch<T>(scratch, Sizes(s), s.variant, &wanted, s.has(input_scale)); });
  return scratch.bytes();
}

const CudaKernels registered(mlp_op, {.kernels = {[](const ForwardArgs& a) {
                                                    dispatch_float(a.inputs[0].dtype, "mlp",
                                                                   [&]<class T>() { forward<T>(a); });
                                                  },
                                                  [](const BackwardArgs& a) {
                                                    dispatch_float(a.output_gradients[0].dtype, "mlp",
                                                                   [&]<class T>() { backward<T>(a); });
                                                  }},
                                      .forward_workspace = forward_bytes,
                                      .backward_workspace = backward_bytes});

}  // namespace
}  // namespace parabola::mlp_cuda
