// The three passes of a convolution, for all ops that contain one. All on all threads, by fixed tiles: an element's
// bits depend neither on the number of threads nor, image by image, on how many images follow. Workspaces are counted
// in elements and depend on the number of threads.
#pragma once
#include "engine/ops/conv2d/columns.h"

namespace parabola {

// y [N, Ho, Wo, K] = x * weight + bias (null: none).
template <class T>
void convolve(const ConvGeometry& g, const T* x, const T* weight, const T* bias, T* y, T* workspace);
int64_t convolve_workspace(const ConvGeometry& g);

// One tile of it, the inner function of every op with a convolution's linear term: rows [begin, end) of y, which are
// `stride` elements apart. `columns` has room for column_elements() of the tile.
template <class T>
void convolve_tile(const ConvGeometry& g, const Sampling& sampling, const T* x, const T* weight, const T* bias,
                   int64_t begin, int64_t end, T* columns, T* y, int64_t stride);

// dx [N, H, W, C] = or += the transposed convolution of dy.
template <class T>
void input_gradient(const ConvGeometry& g, const T* dy, const T* weight, T* dx, bool accumulate, T* workspace);
int64_t input_gradient_workspace(const ConvGeometry& g);

// dw [K, R, S, C / groups] = or += the sum over output pixels of dy times the patch that they read. The tiles are split
// among a fixed number of partial sums (32, fewer where the weight is large), which are then added in their order.
template <class T>
void weight_gradient(const ConvGeometry& g, const T* x, const T* dy, T* dw, bool accumulate, T* workspace);
int64_t weight_gradient_workspace(const ConvGeometry& g);

}  // namespace parabola
