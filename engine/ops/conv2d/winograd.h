// Winograd's minimal filtering F(2x2, 3x3) for convolutions of 3x3 kernels and stride 1: two by two outputs from four
// by four inputs in 16 products a pair of channels, where the definition takes 36. With d a window of the input, g a
// kernel, Y the outputs and e their gradients:
//
//   Y = A^T [ (G g G^T) ∘ (B^T d B) ] A        dg = G^T [ (B^T d B) ∘ (A e A^T) ] G
//
//         1  0 -1  0         1    0    0            1  0
//   B^T = 0  1  1  0     G = 1/2  1/2  1/2      A = 1  1
//         0 -1  1  0         1/2 -1/2  1/2          1 -1
//         0  1  0 -1         0    0    1            0 -1
//
// Each of the 16 positions sums over channels (forward) or windows (weight gradient) by a matrix product of its own.
// The input's gradient is the convolution of the outputs' gradients with the kernel turned round. Source: Lavin & Gray,
// Fast Algorithms for Convolutional Neural Networks, 2016, section 4. Rounding: what is multiplied are sums of a few
// inputs, so that errors are about twice those of the definition.
#pragma once
#include "engine/ops/conv2d/convolve.h"

namespace parabola::winograd {

// Whether a convolution goes this way: 3x3, stride and dilation 1, one group, padding at most 2, channels in whole
// vectors of any machine (multiples of 16), images of four pixels or more a side, two rows of which are a tile. The
// number of images has no part in it.
bool applies(const ConvGeometry& g);

PixelTiles output_tiles(const ConvGeometry& g);

// The geometry of the input's gradient as a convolution of the outputs' gradients.
ConvGeometry turned(const ConvGeometry& g);

// G g G^T of weight [K, 3, 3, C], in panels for each chunk of output channels and each position. `turns`: g is
// turned(g') and the weight that of g', [C, 3, 3, K]. On all threads.
template <class T>
void pack_weight(const ConvGeometry& g, const T* weight, bool turns, T* packed);
int64_t packed_weight_elements(const ConvGeometry& g);

// convolve_tile of convolve.h: whole rows, beginning with one of an even number, or any.
template <class T>
void convolve_tile(const ConvGeometry& g, const T* x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch);
int64_t tile_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles);

// dw [K, 3, 3, C] = what tiles [first, last) add to the weight's gradient; of its gradient_chunks(), blocks of at most
// 64 x 64 channels, number `chunk` alone is written.
template <class T>
void weight_gradient_part(const ConvGeometry& g, const PixelTiles& tiles, int64_t first, int64_t last, int64_t chunk,
                          const T* x, const T* dy, T* dw, T* scratch);
int64_t gradient_chunks(const ConvGeometry& g);
int64_t most_parts(const ConvGeometry& g, const PixelTiles& tiles);
int64_t gradient_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles);

}  // namespace parabola::winograd
