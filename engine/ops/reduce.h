#pragma once
#include "engine/ops/axes.h"

namespace parabola {

// Sum and mean of x over the named axes (negative: counted from the end; none named: over all), in a fixed order, added
// up in blocks of x's dtype and then in double. keep: the axes stay, with size 1. Nothing is kept for backward, which
// repeats dy (divided by the count) along the axes. ShapeError for an axis that x has not or that is named twice.
Tensor sum(const Tensor& x, const std::vector<int>& axes = {}, bool keep = false);
Tensor mean(const Tensor& x, const std::vector<int>& axes = {}, bool keep = false);

// The mean over the image: [N, H, W, C] -> [N, C]. ShapeError for another rank.
Tensor global_average_pool(const Tensor& x);

extern const OpDef sum_op, mean_op;

}  // namespace parabola
