// Where a pixel of a batch of images [N, rows, columns] is.
#pragma once
#include <cstdint>

namespace parabola {

struct PixelPlace {
  int64_t image, row, column;
};

constexpr PixelPlace place_of_pixel(int64_t pixel, int64_t rows, int64_t columns) {
  return {pixel / (rows * columns), pixel / columns % rows, pixel % columns};
}

}  // namespace parabola
