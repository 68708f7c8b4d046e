// Convolutions as matrix products (im2col) on CUDA, a chunk of output pixels after the other; columns.h is the CPU's.
#pragma once
#include "engine/blas/gemm.cuh"
#include "engine/cuda/launch.cuh"
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// Elements of scratch that a chunk may take: 32 MiB of floats, of which a large chip's L2 cache still holds most when
// the product reads them, and enough rows for products that fill it.
constexpr int64_t most_chunk_elements = int64_t{1} << (on_emulated_grid ? 9 : 23);

// Output rows [row, row + rows) of the images [image, image + images): all rows, or those of one image, so that the
// chunk's pixels follow each other in y.
struct ConvChunk {
  int64_t image, images, row, rows;
  constexpr int64_t first_pixel(const ConvGeometry& g) const { return (image * g.Ho + row) * g.Wo; }
  constexpr int64_t pixels(const ConvGeometry& g) const { return images * rows * g.Wo; }
};

// The batch, cut into chunks of equal size for `elements` of scratch a pixel; one chunk, without pixels, where there
// are no images.
class ConvChunks {
 public:
  ConvChunks(const ConvGeometry& g, int64_t elements);
  int64_t number() const;
  ConvChunk operator[](int64_t index) const;
  int64_t most_pixels(const ConvGeometry& g) const { return images_ * rows_ * g.Wo; }  // of a chunk
  bool operator==(const ConvChunks&) const = default;

 private:
  int64_t batch_, height_;         // images, and output rows of each
  int64_t images_, rows_, parts_;  // of a chunk; chunks of an image, or 1
};

// Elements of a pixel's columns; 0 for a 1x1 convolution of stride 1, whose columns are the input itself.
int64_t column_elements(const ConvGeometry& g);

// The columns of a chunk, one matrix [pixels, depth] a group, `step` elements apart. Row order: kernel row, kernel
// column, channel.
template <class T>
struct DeviceColumns {
  Factor<T> factor;
  int64_t step;
};

// Written to `columns` where the input itself does not do.
template <class T>
DeviceColumns<T> device_columns(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* x,
                                T* columns);

// The way back (col2im) for the gradients of a chunk's columns, [groups][pixels, depth]: dx = or += what the chunk's
// outputs have read. Chunks go in their order, since an input row that two of them read is written by the first and
// added to by the second.
template <class T>
void device_gather(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* columns, T* dx,
                   bool accumulate);

}  // namespace parabola
