// pixels.h on CUDA, for kernels launched on [pixels, channels] (column_grid.cuh).
#pragma once
#include "engine/ops/column_grid.cuh"
#include "engine/ops/pixels.h"
#include "engine/ops/walk.cuh"

namespace parabola {

// Finds places in images of rows x columns pixels.
class PixelFinder {
 public:
  PixelFinder(int64_t rows, int64_t columns) : rows_(rows), columns_(columns) {}
  __device__ PixelPlace at(int64_t pixel) const {
    const int64_t row = columns_.divide(pixel), image = rows_.divide(row);
    return {image, row - image * rows_.value(), pixel - row * columns_.value()};
  }

 private:
  Divisor rows_, columns_;
};

}  // namespace parabola
