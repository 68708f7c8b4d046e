// Pixels of a batch of images, for ops that make images of another size from them.
#pragma once
#include "engine/core/shape.h"

namespace parabola {

struct PixelPlace {
  int64_t image, row, column;
};

// Where pixel number `pixel` of images of rows x columns is.
constexpr PixelPlace place_of_pixel(int64_t pixel, int64_t rows, int64_t columns) {
  return {pixel / (rows * columns), pixel / columns % rows, pixel % columns};
}

struct PixelRange {
  int64_t begin, end;
  constexpr int64_t length() const { return end - begin; }
};

// y [N, rows.outputs, columns.outputs, C] made from x [N, rows.size, columns.size, C]. Rows and columns are independent
// of each other; an Axis says which pixels inputs(i) make up output i along it, and which outputs_of(p) pixel p is a
// part of.
template <class Axis>
struct ImageMap {
  int64_t N, C;
  Axis rows, columns;

  constexpr int64_t input_pixels() const { return N * rows.size * columns.size; }
  constexpr int64_t output_pixels() const { return N * rows.outputs * columns.outputs; }
  // The number of the pixel at a place in x, in y.
  constexpr int64_t input(int64_t image, int64_t row, int64_t column) const {
    return (image * rows.size + row) * columns.size + column;
  }
  constexpr int64_t output(int64_t image, int64_t row, int64_t column) const {
    return (image * rows.outputs + row) * columns.outputs + column;
  }
  Shape output_shape() const { return {N, rows.outputs, columns.outputs, C}; }
};

}  // namespace parabola
