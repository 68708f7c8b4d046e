#pragma once
#include "engine/ops/pooling/windows.h"

namespace parabola {

// y [N, Ho, Wo, C]: the largest value of each window of x [N, H, W, C]; Ho = (H + 2 padding - kernel) / stride + 1,
// rounded down, or up in ceil_mode. A NaN counts as larger than any number. dx: each window's dy goes to its first
// largest pixel, row by row. Keeps one byte an output for backward, which pixel that is, and not x. Saved by default: y
// is small beside the x that a replay would need. Cost: a comparison a tap, backward an addition an output. At most
// 256 taps a window. ShapeError, UsageError.
Tensor max_pool2d(const Tensor& x, const PoolAttributes& attributes = {});

extern const OpDef max_pool2d_op;

}  // namespace parabola
