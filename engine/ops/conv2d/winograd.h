// Winograd's minimal filtering F(4x4, 3x3) for convolutions of 3x3 kernels and stride 1: four by four outputs from six
// by six inputs, a window, in 36 products for a pair of channels, where the definition takes 144. With d the inputs, g
// the kernel, Y the outputs and e their gradients:
//
//   Y = A^T [ (G g G^T) ∘ (B^T d B) ] A        dg = G^T [ (B^T d B) ∘ (A e A^T) ] G
//
//         1 -3/2  -2  3/2   1   0          1      0      0          1    0    0    0
//         0   -1 1/2  5/2   1   0         1/3    1/3    1/3         1    1    1    1
//   B^T = 0    1 -5/2 1/2   1   0    G = -1/3    1/3   -1/3     A = 1   -1    1   -1
//         0   -2  -1    2   1   0       -16/15  -8/15  -4/15        1   1/2  1/4  1/8
//         0  1/2  -1 -1/2   1   0        1/15   -2/15   4/15        1   -2    4   -8
//         0    1 -3/2  -2 3/2   1          0      0      1          0    0    0    1
//
// Each of the 36 positions sums over channels (forward) or windows (weight gradient) by a matrix product of its own.
// The input's gradient is the convolution of the outputs' gradients with the kernel turned round. Sources: Lavin &
// Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4; the points 0, 1, -1, 1/2, -2 by Barabasz et
// al., Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks, 2020. Rounding:
// about 3 times the errors of the definition's sums, both in units of the result's root mean square.
#pragma once
#include "engine/ops/conv2d/convolve.h"

namespace parabola::winograd {

// Whether a convolution goes this way: 3x3, stride and dilation 1, one group, padding at most 2, channels in whole
// vectors of any machine (multiples of 16) and not so many that the transformed kernel is read from memory again and
// again, images, in and out, of 4 pixels a side or more and at most 128 a row, or 1024 while the windows of a row times
// the channels, in and out, are at most 2^15. The number of images has no part in it.
bool applies(const ConvGeometry& g);

// Tiles for convolve_tile and for the weight's gradient.
PixelTiles output_tiles(const ConvGeometry& g);

// The geometry of the input's gradient as a convolution of the outputs' gradients.
ConvGeometry turned(const ConvGeometry& g);

// G g G^T of weight [K, 3, 3, C], in panels for each chunk of output channels and each position. `turns`: g is
// turned(g') and the weight that of g', [C, 3, 3, K]. On all threads.
template <class T>
void pack_weight(const ConvGeometry& g, const T* weight, bool turns, T* packed);
int64_t packed_weight_elements(const ConvGeometry& g);

// convolve_tile of convolve.h, for whole rows; windows begin with the first one.
template <class T>
void convolve_tile(const ConvGeometry& g, ConvInputOf<T> x, int64_t begin, int64_t end,
                   std::initializer_list<TileMap<T>> maps, T* scratch);
int64_t tile_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles);

// dw [K, 3, 3, C] = what tiles [first, last) add to the weight's gradient; of its gradient_chunks(), blocks of at most
// 64 x 64 channels, number `chunk` alone is written.
template <class T>
void weight_gradient_part(const ConvGeometry& g, const PixelTiles& tiles, int64_t first, int64_t last, int64_t chunk,
                          ConvInputOf<T> x, const T* dy, T* dw, T* scratch);
int64_t gradient_chunks(const ConvGeometry& g, const PixelTiles& tiles);
int64_t most_parts(const ConvGeometry& g, const PixelTiles& tiles);  // that the tiles are well split into
int64_t gradient_scratch_elements(const ConvGeometry& g, const PixelTiles& tiles);

}  // namespace parabola::winograd
