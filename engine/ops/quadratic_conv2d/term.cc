#include "engine/ops/quadratic_conv2d/term.h"

#include <algorithm>

#include "engine/core/thread_pool.h"

namespace parabola::factors {
namespace {

// The square weight's convolution, of `images` images.
ConvGeometry square_geometry(const Problem& p, int64_t images) {
  ConvGeometry g = p.stacked;
  g.N = images, g.K = p.outputs;
  return g;
}

// In a chunk's scratch: gradients of patches, as the left factor of a form; then x∘x, or its gradient.
int64_t patch_elements(const Problem& p, bool dx) {
  return p.parts.form() && dx ? p.chunk_images() * p.stacked.image_pixels() * p.stacked.groups * p.stacked.depth() : 0;
}

}  // namespace

Extra term_extra(const Problem& p, const Wanted& wanted) {
  Extra extra{.worker = p.outputs, .chunk = patch_elements(p, wanted.x)};  // a row of q, and patches
  if (p.parts.form() || p.parts.square) extra.worker += p.tiles.size * p.stacked.depth();
  if (wanted.squares) {
    const ConvGeometry g = square_geometry(p, p.chunk_images());
    extra.chunk += g.input_shape().elements();
    if (wanted.x) extra.tools = input_gradient_workspace(g);
    extra.tools = std::max(extra.tools, weight_gradient_workspace(g));
  }
  return extra;
}

template <class T>
void ProductTerm<T>::add(const Tile<T>& tile) const {
  T *q = tile.worker, *columns = tile.worker + p_.outputs;
  if (square_) add_squares(tile, columns);
  for (int64_t group = 0; p_.J > 0 && group < p_.stacked.groups; ++group) {
    const FactorTile<T> f = p_.tile(tile.products, group);
    T* y = tile.y + group * width();
    if (p_.parts.form()) {
      const Factor<T> x = patches(tile, group, columns);
      add_form<T>(tile.pixels(), width(), {x.data, x.stride}, f, scale_, y, p_.outputs, q);
    } else {
      add_quadratic_term(tile.pixels(), width(), f, scale_, y, p_.outputs, q);
    }
  }
}

// y += square * (scale x∘x): the patches are squared where they lie.
template <class T>
void ProductTerm<T>::add_squares(const Tile<T>& tile, T* columns) const {
  for (int64_t group = 0; group < p_.stacked.groups; ++group) {
    const Factor<T> x = patches(tile, group, columns);
    for (int64_t i = 0; i < tile.pixels(); ++i)
      scaled_squares(depth(), scale_, x.data + i * x.stride, columns + i * depth());
    tile_product(tile.pixels(), width(), depth(), {columns, depth()},
                 {square_ + group * width() * depth(), depth(), true}, tile.y + group * width(), p_.outputs, true);
  }
}

template <class T>
void ProductTerm<T>::gradients(const Tile<T>& tile) const {
  for (int64_t group = 0; group < p_.stacked.groups; ++group) {
    const FactorTile<T> f = p_.tile(tile.products, group);
    FactorTile<T> gradients = p_.tile(tile.gradients, group);
    const T* dy = tile.y + group * width();
    if (p_.parts.form()) {
      const Factor<T> x = patches(tile, group, tile.worker + p_.outputs);
      T* dx = dx_ ? tile.chunk + (tile.begin - tile.chunk_begin) * row() + group * depth() : nullptr;
      form_gradients<T>(tile.pixels(), width(), {x.data, x.stride}, f, scale_, dy, p_.outputs, {dx, row()}, false,
                        gradients);
    } else if (p_.parts.squared()) {  // a∘a: both halves are one
      gradients.b = nullptr;
      factor_gradients(tile.pixels(), width(), f, 2 * scale_, dy, p_.outputs, gradients);
    } else {
      factor_gradients(tile.pixels(), width(), f, scale_, dy, p_.outputs, gradients);
    }
  }
}

// dx += what the patches' gradients, rows of all groups, say of the pixels that they were read from. An image's groups
// are tasks: each has channels of its own.
template <class T>
void ProductTerm<T>::add_patch_gradients(int64_t begin, int64_t end, const T* gradients) const {
  const ConvGeometry& g = p_.stacked;
  const int64_t inputs = g.group_inputs(), first = begin / g.image_pixels(), last = end / g.image_pixels();
  thread_pool().run((last - first) * g.groups, [&](int64_t task, int) {
    const int64_t image = task / g.groups, group = task % g.groups;
    T* to = dx_ + (first + image) * g.H * g.W * g.C + group * inputs;
    for (int64_t pixel = 0; pixel < g.image_pixels(); ++pixel) {
      const int64_t top = pixel / g.Wo * g.stride - g.padding, left = pixel % g.Wo * g.stride - g.padding;
      const T* from = gradients + (image * g.image_pixels() + pixel) * row() + group * depth();
      const TapRange down = taps_inside(top, g.dilation, g.R, g.H), across = taps_inside(left, g.dilation, g.S, g.W);
      for (int64_t r = down.begin; r < down.end; ++r)
        for (int64_t s = across.begin; s < across.end; ++s) {
          T* dx = to + ((top + r * g.dilation) * g.W + left + s * g.dilation) * g.C;
          for (int64_t c = 0; c < inputs; ++c) dx[c] += from[(r * g.S + s) * inputs + c];
        }
    }
  });
}

template <class T>
void ProductTerm<T>::finish_chunk(int64_t begin, int64_t end, T* chunk, T* tools) const {
  if (p_.parts.form() && dx_) add_patch_gradients(begin, end, chunk);
  if (!p_.parts.square || !(dx_ || dsquare_)) return;
  const int64_t image = begin / p_.stacked.image_pixels();
  const ConvGeometry g = square_geometry(p_, end / p_.stacked.image_pixels() - image);
  const int64_t elements = g.input_shape().elements(), from = image * g.H * g.W * g.C;
  const T *x = x_ + from, *dy = dy_ + begin * p_.outputs;
  T* squares = chunk + patch_elements(p_, dx_ != nullptr);
  const auto each = [&](auto&& part) {
    parallel_for(elements, 4096, [&](int64_t first, int64_t last) { part(first, last - first); });
  };
  if (dx_) {
    input_gradient(g, dy, square_, squares, false, tools);
    each([&](int64_t i, int64_t count) {
      add_square_gradient(count, scale_, x + i, squares + i, dx_ + from + i, adds_to_dx_);
    });
  }
  if (dsquare_) {
    each([&](int64_t i, int64_t count) { scaled_squares(count, scale_, x + i, squares + i); });
    weight_gradient(g, squares, dy, dsquare_, begin > 0 || accumulate_, tools);
  }
}

template class ProductTerm<float>;
template class ProductTerm<double>;

}  // namespace parabola::factors
