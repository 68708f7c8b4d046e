#pragma once
#include <algorithm>

#include "engine/core/op.h"
#include "engine/ops/pixels.h"

namespace parabola {

enum class Interpolation : uint8_t { nearest, bilinear };

// y [N, rows, columns, C] from x [N, H, W, C], as PyTorch's interpolate(align_corners=False) without antialiasing; any
// sizes of at least 1, smaller ones too. nearest: the pixel at floor(i H / rows). bilinear: between the two pixels
// around (i + 1/2) H / rows - 1/2, in each direction; beyond the outermost pixels' centres these stand alone. Nothing
// is kept for backward. Recomputed by default. Cost: 2 flops an output, or 8. ShapeError, UsageError.
Tensor upsample(const Tensor& x, int64_t rows, int64_t columns, Interpolation mode = Interpolation::nearest);

struct UpsampleAttributes {
  int64_t rows = 1, columns = 1;
  Interpolation mode = Interpolation::nearest;
};
extern const OpDef upsample_op;

// One axis: `outputs` pixels out of `size`. All in whole numbers, so that every device finds the same pixels.
struct UpsampleAxis {
  int64_t size, outputs;
  bool linear;

  // Where output i lies, in steps of 1 / (2 outputs) of a pixel, and which pixel that is.
  constexpr int64_t position(int64_t i) const {
    return linear ? std::max<int64_t>(0, (2 * i + 1) * size - outputs) : 2 * i * size;
  }
  constexpr int64_t first(int64_t i) const { return position(i) / (2 * outputs); }
  constexpr PixelRange inputs(int64_t i) const { return {first(i), std::min(size, first(i) + (linear ? 2 : 1))}; }
  template <class T>
  constexpr T weight(int64_t i, int64_t p) const {
    if (!linear) return 1;
    const T second = static_cast<T>(position(i) % (2 * outputs)) / static_cast<T>(2 * outputs);
    if (p != first(i)) return second;
    return p + 1 < size ? 1 - second : 1;
  }
  // Those whose first pixel is p, or where linear the one before.
  constexpr PixelRange outputs_of(int64_t p) const { return {begin_at(linear ? p - 1 : p), begin_at(p + 1)}; }

 private:
  // The first output whose first pixel is p or one behind it.
  constexpr int64_t begin_at(int64_t p) const {
    if (p <= 0) return 0;
    const int64_t i = linear ? ((2 * p + 1) * outputs + size - 1) / (2 * size) : (p * outputs + size - 1) / size;
    return std::min(i, outputs);
  }
};

// The errors name the op.
ImageMap<UpsampleAxis> upsample_map(const Shape& x, const UpsampleAttributes& attributes);

}  // namespace parabola
