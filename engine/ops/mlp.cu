// mlp on CUDA: cuBLAS's products, and gelu on the hidden values of a chunk of rows while they are in the chip's cache.
#include "engine/ops/affine.cuh"
#include "engine/ops/mlp_kernels.h"
#include "engine/ops/normal_distribution.cuh"
#include "engine/ops/scratch.h"

namespace parabola::mlp_cuda {
namespace {

using namespace mlp_kernels;

// Both variants and both directions cut alike, since cuBLAS chooses the order of a sum by the size of a product.
int64_t chunk_rows(const Sizes& n) {
  constexpr int64_t elements = int64_t{1} << (on_emulated_grid ? 12 : 23);  // 32 MiB of floats, which fill a chip
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, n.H) / 64) * 64;
}

// From u, the hidden values before gelu: h = gelu(u), where h is not null, and in place of h's gradient u's, where that
// is not. h may be u itself.
template <class T>
__global__ void mlp_gelu(const T* u, T* h, T* gradient, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const T x = u[i], distribution = normal_distribution(x);
    if (gradient) gradient[i] *= std::fma(x, normal_density(x), distribution);
    if (h) h[i] = x * distribution;
  }
}

// to = or += from.
template <class T>
__global__ void mlp_add(const T* from, T* to, bool accumulate, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) to[i] = accumulate ? to[i] + from[i] : from[i];
}

// A chunk's hidden values, and their gradients; what the biases' gradients are added up in. Of forward where `wanted`
// is null.
template <class T>
struct ChunkScratch {
  T *hidden, *gradients;
  std::byte* bias;
  ChunkScratch(Scratch& scratch, const Sizes& n, int variant, const Wanted* wanted) {
    const int64_t rows = std::min(chunk_rows(n), n.rows), last = n.rows % chunk_rows(n);
    hidden = scratch.take<T>(!wanted || wanted->weight2 || wanted->recomputes(variant) ? rows * n.H : 0);
    gradients = scratch.take<T>(wanted && wanted->hidden ? rows * n.H : 0);
    size_t bytes = 0;
    if (wanted && wanted->bias1)  // fewer rows may be cut into more parts
      bytes = std::max(device_bias_gradient_workspace<T>(rows, n.H), device_bias_gradient_workspace<T>(last, n.H));
    if (wanted && wanted->bias2) bytes = std::max(bytes, device_bias_gradient_workspace<T>(n.rows, n.K));
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
    device_affine<T>(args.stream, rows, n.K, n.H, {own.hidden, n.H}, {in.weight2, n.H, true}, in.bias2,
                     args.outputs[0].data<T>() + begin * n.K);
  }
  if (const int64_t count = n.rows * n.K; in.residual && count > 0)
    launch(mlp_add<T>, blocks_for(count), block_size, 0, args.stream, in.residual, args.outputs[0].data<T>(), true,
           count);
}

template <class T>
void backward(const BackwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  const Wanted wanted = wanted_of(args);
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const ChunkScratch<T> own(scratch, n, args.variant, &wanted);
  for (int64_t begin = 0; wanted.any() && (begin == 0 || begin < n.rows); begin += chunk_rows(n)) {
    const int64_t rows = std::min(chunk_rows(n), n.rows - begin), count = rows * n.H;
    const T *x = in.x ? in.x + begin * n.C : nullptr, *dy_rows = dy + begin * n.K;
    T *u = args.variant == 1 ? args.auxiliary[0].data<T>() + begin * n.H : own.hidden, *du = own.gradients;
    if (wanted.recomputes(args.variant))
      device_affine<T>(args.stream, rows, n.H, n.C, {x, n.C}, {in.weight1, n.C, true}, in.bias1, u);
    if (wanted.hidden) device_gemm<T>(args.stream, rows, n.H, n.K, {dy_rows, n.K}, {in.weight2, n.H}, du, n.H, false);
    if (count > 0)
      launch(mlp_gelu<T>, blocks_for(count), block_size, 0, args.stream, u, wanted.weight2 ? own.hidden : nullptr,
             wanted.hidden ? du : nullptr, count);
    const auto adds = [&](int i) { return begin > 0 || args.accumulates(i); };
    if (wanted.x)
      device_gemm<T>(args.stream, rows, n.C, n.H, {du, n.H}, {in.weight1, n.C}, gradient(input_x) + begin * n.C, n.C,
                     args.accumulates(input_x));
    if (wanted.weight1)
      device_gemm<T>(args.stream, n.H, n.C, rows, {du, n.H, true}, {x, n.C}, gradient(input_weight1), n.C,
                     adds(input_weight1));
    if (wanted.weight2)
      device_gemm<T>(args.stream, n.K, n.H, rows, {dy_rows, n.K, true}, {own.hidden, n.H}, gradient(input_weight2), n.H,
                     adds(input_weight2));
    if (wanted.bias1)
      device_bias_gradient(args.stream, du, rows, n.H, gradient(input_bias1), adds(input_bias1), own.bias);
  }
  if (wanted.bias2)
    device_bias_gradient(args.stream, dy, n.rows, n.K, gradient(input_bias2), args.accumulates(input_bias2), own.bias);
  if (T* d = wanted.residual ? gradient(input_residual) : nullptr; d && d != dy && n.rows * n.K > 0)
    launch(mlp_add<T>, blocks_for(n.rows * n.K), block_size, 0, args.stream, dy, d, args.accumulates(input_residual),
           n.rows * n.K);
}

size_t forward_bytes(const Signature& s) {
  Scratch scratch;
  dispatch_float(s.dtype(), mlp_op.name, [&]<class T>() { ChunkScratch<T>(scratch, Sizes(s), s.variant, nullptr); });
  return scratch.bytes();
}

size_t backward_bytes(const Signature& s) {
  const Wanted wanted = wanted_of(s);
  Scratch scratch;
  dispatch_float(s.dtype(), mlp_op.name, [&]<class T>() { ChunkScratch<T>(scratch, Sizes(s), s.variant, &wanted); });
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
