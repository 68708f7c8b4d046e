// The three passes of a convolution, for all ops that contain one: by matrix products over patches (columns.h), or, 3x3
// kernels of stride 1 over enough channels, by Winograd's algorithm (winograd.h), in a quarter of the products. All
// on all threads, by fixed tiles: an element's bits depend neither on the number of threads nor, image by image, on how
// many images follow. Workspaces are counted in elements and depend on the number of threads.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "engine/ops/conv2d/columns.h"

namespace parabola {

// What a convolution reads: x or, with a norm, max(0, (x - mean) scale + shift + residual) for each channel [C], made
// as it is read and written nowhere; the residual, laid out as x, may be null.
template <class T>
struct ConvInput {
  const T *x, *mean = nullptr, *scale = nullptr, *shift = nullptr, *residual = nullptr;
  ConvInput(const T* x) : x(x) {}  // implicit: most read x itself
  ConvInput(const T* x, const T* mean, const T* scale, const T* shift, const T* residual)
      : x(x), mean(mean), scale(scale), shift(shift), residual(residual) {}
};
template <class T>
using ConvInputOf = std::type_identity_t<ConvInput<T>>;
// Whether the convolution, and its weight's gradient, can read such a one: those by Winograd's algorithm do.
bool reads_normed(const ConvGeometry& g);

// y [N, Ho, Wo, K] = x * weight + bias (null: none).
template <class T>
void convolve(const ConvGeometry& g, ConvInputOf<T> x, const T* weight, const T* bias, T* y, T* workspace);
int64_t convolve_workspace(const ConvGeometry& g);
// The same, or y +=, with the packed weight (below) at the workspace's beginning.
template <class T>
void convolve_packed(const ConvGeometry& g, ConvInputOf<T> x, const T* bias, T* y, bool accumulate, T* workspace);

// The tiles of its output pixels. Of several convolutions of one x those by Winograd's algorithm need its tiles;
// patches take any.
PixelTiles output_tiles(const ConvGeometry& g);

// The weight [K, R, S, C / groups] as convolve_tile multiplies with it, once for all tiles: [group] panels, or
// Winograd's.
template <class T>
void pack_weight(const ConvGeometry& g, const T* weight, T* packed);
int64_t packed_weight_elements(const ConvGeometry& g);

// What becomes of a tile's patches: y = or += patches * weight + bias (null: none), with the packed weight,
// `group_outputs` outputs a group and the rows of y `stride` elements apart.
template <class T>
struct TileMap {
  const T *packed_weight, *bias;
  int64_t group_outputs;
  T* y;
  int64_t stride;
  bool accumulate = false;
};

// Output pixels [begin, end) for several maps of the same patches. The inner function of every op with a convolution in
// it: a map's bits do not depend on the other maps, so the linear term of a quadratic op has those of conv2d.
template <class T>
void convolve_tile(const ConvGeometry& g, ConvInputOf<T> x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch);
int64_t tile_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles);

// dx [N, H, W, C] = or += the transposed convolution of dy.
template <class T>
void input_gradient(const ConvGeometry& g, const T* dy, const T* weight, T* dx, bool accumulate, T* workspace);
int64_t input_gradient_workspace(const ConvGeometry& g);

// dw [K, R, S, C / groups] = or += the sum over output pixels of dy times the patch that they read. The tiles are split
// among partial sums (at most 32, fewer where the weight is large or the tiles are few, whatever the threads), which
// are then added in their order. The workspace does not shrink as images are added, so that of a full chunk does for a
// smaller one.
template <class T>
void weight_gradient(const ConvGeometry& g, ConvInputOf<T> x, const T* dy, T* dw, bool accumulate, T* workspace);
int64_t weight_gradient_workspace(const ConvGeometry& g);

}  // namespace parabola
