#include "engine/ops/quadratic_conv2d/factors.h"

#include "engine/core/thread_pool.h"
#include "engine/ops/bias.h"
#include "engine/ops/conv2d/winograd.h"
#include "engine/ops/quadratic_conv2d/stacked.h"
#include "engine/ops/scratch.h"

namespace parabola::factors {
namespace {

ConvGeometry with_images(ConvGeometry g, int64_t images) {
  g.N = images;
  return g;
}

// Whether what a tile reads is prepared but once, for the linear kernel and the factors.
bool prepared_once(const Problem& p) {
  return p.same_patches() && winograd::applies(*p.linear) == winograd::applies(p.stacked);
}

// A worker's scratch, in elements: what a tile reads, its products unless they are kept, and what the term asks for.
struct Worker {
  int64_t strip, products, term;
  Worker(const Problem& p, bool with_products, const Extra& extra)
      : strip(tile_scratch_elements(p.stacked, p.tiles)),
        products(with_products ? p.tiles.size * p.stacked.K : 0),
        term(extra.worker) {
    if (p.linear) strip = std::max(strip, tile_scratch_elements(*p.linear, p.tiles));
  }
  int64_t elements() const { return strip + products + term; }
};

template <class T>
struct ForwardScratch {
  T *kernels, *packed, *packed_linear, *workers;
  ForwardScratch(Scratch& scratch, const Problem& p, const Worker& worker) {
    kernels = scratch.take<T>(p.kernel_elements());
    packed = scratch.take<T>(packed_weight_elements(p.stacked));
    packed_linear = scratch.take<T>(p.linear ? packed_weight_elements(*p.linear) : 0);
    workers = scratch.take<T>(thread_pool().threads() * worker.elements());
  }
};

template <class T>
struct BackwardScratch {
  T *kernels, *packed, *kernel_gradients, *gradients, *chunk, *workers, *tools;
  BackwardScratch(Scratch& scratch, const Problem& p, const Wanted& wanted, const Worker& worker, const Extra& extra) {
    const ConvGeometry chunk_geometry = with_images(p.stacked, p.chunk_images());
    int64_t most = wanted.products || wanted.squares ? extra.tools : 0;
    if (wanted.x) most = std::max(most, input_gradient_workspace(p.stacked));
    if (wanted.x && p.linear) most = std::max(most, input_gradient_workspace(*p.linear));
    if (wanted.factors) most = std::max(most, weight_gradient_workspace(chunk_geometry));
    if (wanted.weight) most = std::max(most, weight_gradient_workspace(*p.linear));
    if (wanted.bias) most = std::max(most, bias_gradient_workspace(p.any().pixels(), p.outputs));
    kernels = scratch.take<T>(wanted.products ? p.kernel_elements() : 0);
    packed = scratch.take<T>(wanted.products ? packed_weight_elements(p.stacked) : 0);
    kernel_gradients = scratch.take<T>(wanted.factors ? p.kernel_elements() : 0);
    gradients = scratch.take<T>(wanted.products ? chunk_geometry.pixels() * p.stacked.K : 0);
    chunk = scratch.take<T>(wanted.products || wanted.squares ? extra.chunk : 0);
    workers = scratch.take<T>(wanted.products ? thread_pool().threads() * worker.elements() : 0);
    tools = scratch.take<T>(most);
  }
};

}  // namespace

template <class T>
void forward(const Problem& p, const ForwardArgs& args, const Extra& extra, const Term<T>& term) {
  const auto input = [&](int i) { return data_of<T>(args.inputs, i); };
  const T *x = input(input_x), *weight = input(input_weight), *bias = input(input_bias);
  const bool kept = args.variant == 1 && p.J > 0;
  const Worker sizes(p, !kept, extra);
  Scratch scratch(args.workspace);
  const ForwardScratch<T> mine(scratch, p, sizes);
  const T* factors[] = {input(input_a), input(input_b)};
  stack_kernels<T>(p.parts.present<const T*>(factors), p.J, p.K, p.stacked.groups, p.stacked.depth(), mine.kernels);
  pack_weight(p.stacked, mine.kernels, mine.packed);
  if (p.linear) pack_weight(*p.linear, weight, mine.packed_linear);

  thread_pool().run(p.tiles.number(), [&](int64_t index, int worker) {
    const int64_t begin = p.tiles.begin(index), end = p.tiles.end(index), all = p.stacked.K;
    T *strip = mine.workers + worker * sizes.elements(), *y = args.outputs[0].data<T>() + begin * p.outputs;
    T* products = kept ? args.auxiliary[0].data<T>() + begin * all : strip + sizes.strip;
    const TileMap<T> linear{mine.packed_linear, bias, p.outputs / p.any().groups, y, p.outputs};
    const TileMap<T> both_factors{mine.packed, nullptr, all / p.stacked.groups, products, all};
    if (prepared_once(p)) {
      convolve_tile(p.stacked, x, begin, end, {linear, both_factors}, strip);
    } else {
      if (p.linear)
        convolve_tile(*p.linear, x, begin, end, {linear}, strip);
      else  // no kernel: the bias alone, or zeros
        tile_product<T>(end - begin, p.outputs, 0, {x, 0}, {x, 0}, y, p.outputs, false, bias);
      if (p.J > 0) convolve_tile(p.stacked, x, begin, end, {both_factors}, strip);
    }
    term.add(
        {.begin = begin, .end = end, .products = products, .y = y, .worker = strip + sizes.strip + sizes.products});
  });
}

template <class T>
void backward(const Problem& p, const BackwardArgs& args, const Extra& extra, const Term<T>& term) {
  const auto input = [&](int i) { return data_of<T>(args.inputs, i); };
  const auto gradient = [&](int i) { return data_of<T>(args.input_gradients, i); };
  const T *x = input(input_x), *weight = input(input_weight);
  T* dy = args.output_gradients[0].data<T>();
  const Wanted wanted(p, args);
  const bool kept = args.variant == 1 && p.J > 0;
  const Worker sizes(p, false, extra);
  Scratch scratch(args.workspace);
  const BackwardScratch<T> mine(scratch, p, wanted, sizes, extra);
  const bool recompute = wanted.reads_products && !kept;
  const T* factors[] = {input(input_a), input(input_b)};
  if (wanted.products && (wanted.x || recompute))
    stack_kernels<T>(p.parts.present<const T*>(factors), p.J, p.K, p.stacked.groups, p.stacked.depth(), mine.kernels);
  if (wanted.products && recompute) pack_weight(p.stacked, mine.kernels, mine.packed);

  const int64_t all = p.stacked.K, image_inputs = p.stacked.H * p.stacked.W * p.stacked.C;
  const bool any = wanted.products || wanted.squares;
  for (int64_t first = 0; any && (first == 0 || first < p.tiles.number()); first += p.chunk_tiles) {
    const int64_t last = std::min(p.tiles.number(), first + p.chunk_tiles);
    const int64_t chunk_begin = p.tiles.begin(first), chunk_end = last > first ? p.tiles.end(last - 1) : 0;
    thread_pool().run(wanted.products ? last - first : 0, [&](int64_t index, int worker) {
      const int64_t begin = p.tiles.begin(first + index), end = p.tiles.end(first + index);
      T *strip = mine.workers + worker * sizes.elements(), *gradients = mine.gradients + (begin - chunk_begin) * all;
      T* products = kept ? args.auxiliary[0].data<T>() + begin * all : gradients;
      if (recompute)
        convolve_tile(p.stacked, x, begin, end, {{mine.packed, nullptr, all / p.stacked.groups, products, all}}, strip);
      term.gradients(
          {begin, end, products, gradients, dy + begin * p.outputs, strip + sizes.strip, mine.chunk, chunk_begin});
    });

    const int64_t image = chunk_begin / p.stacked.image_pixels(), images = chunk_end / p.stacked.image_pixels() - image;
    const ConvGeometry chunk = with_images(p.stacked, images);
    if (wanted.x) {
      T* dx = gradient(input_x) + image * image_inputs;
      const bool accumulate = args.accumulates(input_x);
      if (p.linear)
        input_gradient(with_images(*p.linear, images), dy + chunk_begin * p.outputs, weight, dx, accumulate,
                       mine.tools);
      if (p.J > 0) input_gradient(chunk, mine.gradients, mine.kernels, dx, accumulate || p.linear, mine.tools);
    }
    if (wanted.factors)
      weight_gradient(chunk, x + image * image_inputs, mine.gradients, mine.kernel_gradients, first > 0, mine.tools);
    term.finish_chunk(chunk_begin, chunk_end, mine.chunk, mine.tools);
  }
  if (wanted.factors) {
    T* gradients[] = {gradient(input_a), gradient(input_b)};
    const bool accumulate[] = {args.accumulates(input_a), args.accumulates(input_b)};
    unstack_gradients<T>(mine.kernel_gradients, p.J, p.K, p.stacked.groups, p.stacked.depth(),
                         p.parts.present<T*>(gradients), p.parts.present<const bool>(accumulate));
  }
  if (args.wants(input_weight))
    weight_gradient(*p.linear, x, dy, gradient(input_weight), args.accumulates(input_weight), mine.tools);
  if (args.wants(input_bias))
    bias_gradient(dy, p.any().pixels(), p.outputs, gradient(input_bias), args.accumulates(input_bias), mine.tools);
}

size_t forward_workspace(const Problem& p, DType dtype, int variant, const Extra& extra) {
  Scratch scratch;
  dispatch_float(dtype, "quadratic_conv2d",
                 [&]<class T>() { ForwardScratch<T>(scratch, p, Worker(p, variant == 0, extra)); });
  return scratch.bytes();
}

size_t backward_workspace(const Problem& p, DType dtype, uint64_t mask, const Extra& extra) {
  Scratch scratch;
  dispatch_float(dtype, "quadratic_conv2d",
                 [&]<class T>() { BackwardScratch<T>(scratch, p, Wanted(p, mask), Worker(p, false, extra), extra); });
  return scratch.bytes();
}

template void forward(const Problem&, const ForwardArgs&, const Extra&, const Term<float>&);
template void forward(const Problem&, const ForwardArgs&, const Extra&, const Term<double>&);
template void backward(const Problem&, const BackwardArgs&, const Extra&, const Term<float>&);
template void backward(const Problem&, const BackwardArgs&, const Extra&, const Term<double>&);

}  // namespace parabola::factors
