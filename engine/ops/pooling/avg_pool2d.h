#pragma once
#include "engine/ops/pooling/windows.h"

namespace parabola {

// y [N, Ho, Wo, C]: the mean of each window of x [N, H, W, C]. Windows as max_pool2d's; what they cover of the padding
// counts as zeros, or not at all without count_include_pad. Nothing is kept for backward: dx adds up the shares of all
// windows over a pixel. Saved by default: y is small beside the x that a replay would need. Cost: 2 flops
// a tap, backward the same. ShapeError, UsageError.
Tensor avg_pool2d(const Tensor& x, const PoolAttributes& attributes = {});

// The same with windows that give `rows` x `columns` outputs, whatever the image's size; they overlap where that does
// not divide it. One mean of each image, without the axes: global_average_pool (reduce.h).
Tensor adaptive_avg_pool2d(const Tensor& x, int64_t rows, int64_t columns);

extern const OpDef avg_pool2d_op, adaptive_avg_pool2d_op;

}  // namespace parabola
