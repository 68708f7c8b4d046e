// The windows of a pooling op, checked once and used by the whole family. Rows and columns are independent of each
// other and alike: along either, output i looks at a range of input pixels.
#pragma once
#include <algorithm>
#include <string_view>

#include "engine/core/op.h"

namespace parabola {

// Square windows, placed as PyTorch does. Padding is no value: it only shifts the windows, which are cut at the image's
// edges.
struct PoolAttributes {
  int kernel = 2;
  int stride = 0;  // 0: as the kernel, so that windows touch
  int padding = 0;
  bool ceil_mode = false;  // a last window may hang over the end, if it begins inside of the image or its padding
  bool count_include_pad = true;  // averages only: divide by what the window covers of image and padding, not of image
};

// Windows of whatever sizes give this many outputs: output i of m looks at [floor(i n / m), ceil((i + 1) n / m)).
struct AdaptivePoolAttributes {
  int64_t rows = 1, columns = 1;
};

struct PixelRange {
  int64_t begin, end;
  constexpr int64_t length() const { return end - begin; }
};

// The windows along one axis; a kernel of 0 means adaptive ones.
struct PoolAxis {
  int64_t size, outputs;
  int64_t kernel = 0, stride = 1, padding = 0;
  bool counts_padding = false;

  // Where output i's window begins, maybe before the image.
  constexpr int64_t start(int64_t i) const { return kernel ? i * stride - padding : i * size / outputs; }
  // The input pixels of output i: never none.
  constexpr PixelRange inputs(int64_t i) const {
    if (!kernel) return {start(i), ((i + 1) * size + outputs - 1) / outputs};
    return {std::max<int64_t>(0, start(i)), std::min(size, start(i) + kernel)};
  }
  // The outputs whose windows cover input pixel p; maybe none.
  constexpr PixelRange outputs_of(int64_t p) const {
    if (!kernel) return {p * outputs / size, ((p + 1) * outputs + size - 1) / size};
    const int64_t past = std::max<int64_t>(0, p + padding - kernel + 1);  // where the first of them may begin
    return {(past + stride - 1) / stride, std::min(outputs, (p + padding) / stride + 1)};
  }
  // What an average divides by, along this axis.
  constexpr int64_t divisor(int64_t i) const {
    return counts_padding ? std::min(start(i) + kernel, size + padding) - start(i) : inputs(i).length();
  }
};

// y [N, rows.outputs, columns.outputs, C] of x [N, rows.size, columns.size, C].
struct PoolGeometry {
  int64_t N, C;
  PoolAxis rows, columns;

  constexpr int64_t input_pixels() const { return N * rows.size * columns.size; }
  constexpr int64_t output_pixels() const { return N * rows.outputs * columns.outputs; }
  // The flat pixel index of a place in the input, in the output.
  constexpr int64_t input(int64_t image, int64_t row, int64_t column) const {
    return (image * rows.size + row) * columns.size + column;
  }
  constexpr int64_t output(int64_t image, int64_t row, int64_t column) const {
    return (image * rows.outputs + row) * columns.outputs + column;
  }
  // Which tap of output (i, j)'s window input pixel (row, column) is, row by row.
  constexpr int64_t tap(int64_t i, int64_t j, int64_t row, int64_t column) const {
    return (row - rows.start(i)) * columns.kernel + column - columns.start(j);
  }
  Shape output_shape() const { return {N, rows.outputs, columns.outputs, C}; }
};

// Errors name `op`: ShapeError for an x that is not [N, H, W, C] with at least a pixel, or has no room for a window;
// UsageError for a kernel below 1, a negative stride, a padding that is negative or more than half the kernel, and for
// less than one output.
PoolGeometry pool_geometry(std::string_view op, const Shape& x, const PoolAttributes& attributes);
PoolGeometry pool_geometry(std::string_view op, const Shape& x, const AdaptivePoolAttributes& attributes);

// One flop for each pixel of a window. Backward reads dy and `kept` bytes.
StepCost pool_cost(const Signature& s, const PoolGeometry& g, double kept);

}  // namespace parabola
