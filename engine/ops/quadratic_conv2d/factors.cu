#include "engine/ops/quadratic_conv2d/factors.cuh"

#include <algorithm>

#include "engine/ops/conv2d/implicit.cuh"
#include "engine/ops/quadratic_stack.cuh"

namespace parabola::factors {
namespace {

KernelStack stack_of(const Problem& p) { return {p.parts.factors(), p.J, p.K, p.stacked.groups, p.stacked.depth()}; }

// For the factors; where the linear kernel has the same chunks and patches, and conv2d computes it by columns, one set
// of them serves both. Otherwise it runs by itself: in either case its products are those of conv2d, bit by bit.
ConvChunks factor_chunks(const Problem& p, int64_t extra) {
  return {p.stacked, std::max(column_elements(p.stacked), p.stacked.K + extra)};
}

template <class T>
bool shares_columns(const Problem& p, const ConvChunks& chunks) {
  return p.same_patches() && chunks == convolution_chunks(*p.linear) && !without_columns<T>(*p.linear);
}

template <class T>
struct ForwardScratch {
  T *kernels, *products, *term, *columns;
  ForwardScratch(Scratch& scratch, const Problem& p, int variant, int64_t extra) {
    const int64_t pixels = factor_chunks(p, extra).most_pixels(p.stacked);
    const size_t linear = p.linear ? device_convolve_workspace<T>(*p.linear) : 0;
    kernels = scratch.take<T>(p.kernel_elements());
    products = scratch.take<T>(variant == 0 ? pixels * p.stacked.K : 0);
    term = scratch.take<T>(pixels * extra);
    columns = scratch.take<T>(std::max(pixels * column_elements(p.stacked), static_cast<int64_t>(linear / sizeof(T))));
  }
};

template <class T>
struct BackwardScratch {
  T *kernels, *kernel_gradients, *gradients, *term, *columns;
  std::byte* linear;  // the same place as columns
  BackwardScratch(Scratch& scratch, const Problem& p, const Wanted& wanted, int64_t extra) {
    const bool any = wanted.products || wanted.squares;
    const int64_t pixels = any ? factor_chunks(p, extra).most_pixels(p.stacked) : 0;
    const size_t columns_bytes = static_cast<size_t>(pixels * column_elements(p.stacked)) * sizeof(T);
    const size_t linear_bytes =
        p.linear      ? device_convolve_backward_workspace<T>(*p.linear, wanted.x, wanted.weight, wanted.bias)
        : wanted.bias ? device_bias_gradient_workspace<T>(p.stacked.pixels(), p.outputs)
                      : 0;
    kernels = scratch.take<T>(wanted.products ? p.kernel_elements() : 0);
    kernel_gradients = scratch.take<T>(wanted.factors ? p.kernel_elements() : 0);
    gradients = scratch.take<T>(wanted.products ? pixels * p.stacked.K : 0);
    term = scratch.take<T>(pixels * extra);
    linear = scratch.take<std::byte>(static_cast<int64_t>(std::max(columns_bytes, linear_bytes)));
    columns = reinterpret_cast<T*>(linear);
  }
};

}  // namespace

template <class T>
void device_forward(const Problem& p, const ForwardArgs& args, int64_t extra, const DeviceTerm<T>& term) {
  const auto input = [&](int i) { return data_of<T>(args.inputs, i); };
  const T *x = input(input_x), *weight = input(input_weight), *bias = input(input_bias);
  T* y = args.outputs[0].data<T>();
  const bool kept = args.variant == 1 && p.J > 0;
  Scratch scratch(args.workspace);
  const ForwardScratch<T> mine(scratch, p, args.variant, extra);
  const int first_factor = p.parts.a ? input_a : input_b;
  if (p.J > 0) device_stack<T>(args.stream, stack_of(p), {input(first_factor), input(input_b)}, mine.kernels);

  const ConvChunks chunks = factor_chunks(p, extra);
  const bool shared = shares_columns<T>(p, chunks);
  if (p.linear && !shared) device_convolve(args.stream, *p.linear, x, weight, bias, y, mine.columns);
  if (!p.linear)  // the bias alone, or zeros
    launch_on_columns(affine_start<T>, args.stream, p.stacked.pixels(), p.outputs, bias, y, p.stacked.pixels(),
                      p.outputs);
  for (int64_t i = 0; i < chunks.number(); ++i) {
    const ConvChunk chunk = chunks[i];
    const int64_t first = chunk.first_pixel(p.stacked);
    const DeviceColumns<T> columns = device_columns(args.stream, p.stacked, chunk, x, mine.columns);
    const ChunkRows<T> rows{.pixels = chunk.pixels(p.stacked),
                            .products = kept ? args.auxiliary[0].data<T>() + first * p.stacked.K : mine.products,
                            .gradients = nullptr,
                            .y = y + first * p.outputs,
                            .scratch = mine.term,
                            .first = i == 0,
                            .chunk = chunk,
                            .patches = columns};
    if (shared) device_convolve_chunk(args.stream, *p.linear, chunk, columns, weight, bias, rows.y);
    if (p.J > 0) device_convolve_chunk<T>(args.stream, p.stacked, chunk, columns, mine.kernels, nullptr, rows.products);
    term.add(rows);
  }
}

template <class T>
void device_backward(const Problem& p, const BackwardArgs& args, int64_t extra, const DeviceTerm<T>& term) {
  const auto input = [&](int i) { return data_of<T>(args.inputs, i); };
  const auto gradient = [&](int i) { return data_of<T>(args.input_gradients, i); };
  const T* x = input(input_x);
  T* dy = args.output_gradients[0].data<T>();
  const Wanted wanted(p, args);
  const bool kept = args.variant == 1 && p.J > 0;
  Scratch scratch(args.workspace);
  const BackwardScratch<T> mine(scratch, p, wanted, extra);

  if (p.linear)
    device_convolve_backward(args.stream, *p.linear, x, input(input_weight), dy,
                             {gradient(input_x), gradient(input_weight), gradient(input_bias),
                              args.accumulates(input_x), args.accumulates(input_weight), args.accumulates(input_bias)},
                             mine.linear);
  else if (wanted.bias)
    device_bias_gradient(args.stream, dy, p.stacked.pixels(), p.outputs, gradient(input_bias),
                         args.accumulates(input_bias), mine.linear);
  if (!wanted.products && !wanted.squares) return;

  const bool recompute = wanted.reads_products && !kept, term_reads = p.parts.form() || wanted.squares;
  const int first_factor = p.parts.a ? input_a : input_b;
  if (wanted.products && (wanted.x || recompute))
    device_stack<T>(args.stream, stack_of(p), {input(first_factor), input(input_b)}, mine.kernels);
  const ConvChunks chunks = factor_chunks(p, extra);
  for (int64_t i = 0; i < chunks.number(); ++i) {
    const ConvChunk chunk = chunks[i];
    const int64_t first = chunk.first_pixel(p.stacked);
    DeviceColumns<T> columns{};
    if (wanted.factors || recompute || term_reads)
      columns = device_columns(args.stream, p.stacked, chunk, x, mine.columns);
    const ChunkRows<T> rows{.pixels = chunk.pixels(p.stacked),
                            .products = kept ? args.auxiliary[0].data<T>() + first * p.stacked.K : mine.gradients,
                            .gradients = mine.gradients,
                            .y = dy + first * p.outputs,
                            .scratch = mine.term,
                            .first = i == 0,
                            .chunk = chunk,
                            .patches = columns};
    if (recompute)
      device_convolve_chunk<T>(args.stream, p.stacked, chunk, columns, mine.kernels, nullptr, rows.products);
    term.gradients(rows);
    if (wanted.factors)
      device_weight_gradient(args.stream, p.stacked, chunk, columns, rows.gradients, mine.kernel_gradients, i > 0);
    if (wanted.x && p.J > 0)
      device_input_gradient(args.stream, p.stacked, chunk, rows.gradients, mine.kernels, gradient(input_x),
                            args.accumulates(input_x) || p.linear, mine.columns);
    term.finish(rows);
  }
  if (wanted.factors)
    device_unstack<T>(args.stream, stack_of(p), mine.kernel_gradients, {gradient(first_factor), gradient(input_b)},
                      {args.accumulates(first_factor), args.accumulates(input_b)});
}

size_t device_forward_workspace(const Problem& p, const Signature& s, int64_t extra) {
  Scratch scratch;
  dispatch_float(s.dtype(), "quadratic_conv2d", [&]<class T>() { ForwardScratch<T>(scratch, p, s.variant, extra); });
  return scratch.bytes();
}

size_t device_backward_workspace(const Problem& p, const Signature& s, int64_t extra) {
  Scratch scratch;
  dispatch_float(s.dtype(), "quadratic_conv2d",
                 [&]<class T>() { BackwardScratch<T>(scratch, p, Wanted(p, s.gradient_mask), extra); });
  return scratch.bytes();
}

template void device_forward(const Problem&, const ForwardArgs&, int64_t, const DeviceTerm<float>&);
template void device_forward(const Problem&, const ForwardArgs&, int64_t, const DeviceTerm<double>&);
template void device_backward(const Problem&, const BackwardArgs&, int64_t, const DeviceTerm<float>&);
template void device_backward(const Problem&, const BackwardArgs&, int64_t, const DeviceTerm<double>&);

}  // namespace parabola::factors
