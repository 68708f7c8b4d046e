// Another size for an image, as Pillow makes it with Image.resize(size, BILINEAR).
#pragma once
#include <cstdint>

#include "data/dataset.h"

namespace parabola {

struct Window {
  int64_t top, left;
  int height, width;
};

// Makes out the given window of `in` resized to height x width; what lies outside of the window is not computed.
// Separable: rows first, rounded to 8 bits, then columns. Along an axis that shrinks by the factor f (f = 1 where it
// grows), output i is the mean of the inputs with the weights max(0, 1 - |x - c| / f), where x is the middle of an
// input pixel and c that of the output pixel: a triangle over 2 f pixels, wide enough to leave no input out, so that
// nothing aliases. Weights are rounded to 22 bits, and the sum to the nearest level. Source: Pillow's documentation of
// its filters ("Concepts", section Filters), rounding found by comparing (tests/data/resize_test.cc).
void resize(const Image& in, int64_t height, int64_t width, const Window& window, Image& out);

}  // namespace parabola
