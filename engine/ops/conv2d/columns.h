// Convolutions as matrix products, tile by tile: what a tile of output pixels reads of the image, with zeros around it,
// is copied once and stays in the first levels of cache; the matrix that im2col would write from it, a row of all taps
// for every pixel, is read from there by its kernel (blas/gemm.h, Patches) and never exists.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// Elements up to the next cache line's beginning, of floats: workers' scratch begins there.
constexpr int64_t padded(int64_t elements) { return (elements + 15) / 16 * 16; }

// One axis: position i of `grid` reads source positions i * stride + first + t * step, t in [0, taps); outside of
// [0, source) it reads zeros. Tap t belongs to kernel row (or column) tap_first + t * tap_step.
struct SampledAxis {
  int64_t grid, source, stride, first, step, taps, tap_first = 0, tap_step = 1;
};

// What a convolution, or one phase of its transpose, reads of each image.
struct Sampling {
  int64_t images, channels;  // of the source
  SampledAxis rows, columns;

  int64_t taps() const { return rows.taps * columns.taps; }
  int64_t grid() const { return rows.grid * columns.grid; }  // pixels an image
  bool identity() const;  // every pixel reads just itself: a 1x1 convolution needs no columns
};

// Output pixels reading the input.
Sampling forward_sampling(const ConvGeometry& g);

// Input pixels (row + i stride, column + j stride) reading the output's gradients: the transposed convolution. With
// stride s, a row h meets kernel row r only where s divides h + padding - r dilation; so each of the s x s phases (row,
// column in [0, s)) has kernel rows and columns of its own and is a convolution of stride 1, and no product with a zero
// is computed.
Sampling backward_sampling(const ConvGeometry& g, int64_t row, int64_t column);

// Tiles of a sampling's pixels, counted through the whole batch: some whole images, some whole rows of one, or, where a
// row is long, part of an image. Some 2^16 products of a pixel and a value of its patch, `depth` of them, are a tile's
// work for each output channel; at least 64 pixels, at most 256. For work by windows of side x side pixels tiles are
// whole rows, as many as a multiple of `side` but for the image's last ones: one row of windows or, where that is more,
// as many as have at most 256 to 512 pixels. Tiles of the first images do not depend on how many images follow.
struct PixelTiles {
  PixelTiles(const Sampling& sampling, int64_t depth, int64_t side = 1);
  int64_t number() const;
  int64_t begin(int64_t tile) const;
  int64_t end(int64_t tile) const;
  int64_t length(int64_t tile) const { return end(tile) - begin(tile); }

  static constexpr int64_t usual = 512;  // pixels at most, but for longer rows of windows
  int64_t images, grid;                  // pixels an image
  int64_t images_per_tile, parts;        // one of them is 1: parts of an image
  int64_t size;                          // pixels of a tile; the last one of an image, or of the batch, may be smaller
};

// The patches [pixels, taps * channels] of pixels [begin, end), at most PixelTiles::usual, of `channels` channels of
// the source from `channel` on, in the order kernel row, kernel column, channel. `strip`, of strip_elements(), takes
// what they read, or, where that is more (long rows, wide strides and dilations), the patches themselves; an identity
// is read in the source.
template <class T>
class TilePatches {
 public:
  TilePatches(const Sampling& sampling, const T* source, int64_t channel, int64_t channels, int64_t begin, int64_t end,
              T* strip);
  TilePatches(const TilePatches&) = delete;  // patches() points into it
  TilePatches& operator=(const TilePatches&) = delete;
  const Patches<T>& patches() const { return patches_; }

 private:
  int64_t rows_[PixelTiles::usual];
  Patches<T> patches_;
};

// The same patches written out: columns [pixels, taps * channels]. For what needs all of them as a matrix of its own.
template <class T>
Factor<T> write_patches(const Sampling& sampling, const T* source, int64_t channel, int64_t channels, int64_t begin,
                        int64_t end, T* columns);

// Elements of the strip of the largest tile; 0 for an identity.
int64_t strip_elements(const Sampling& sampling, const PixelTiles& tiles, int64_t channels);

}  // namespace parabola
