#pragma once
#include "engine/ops/axes.h"

namespace parabola {

// The largest values of x over the named axes (negative: counted from the end; none named: over all). keep: the axes
// stay, with size 1. A NaN counts as larger than any number. dx: a result's dy goes to its first largest value in
// row-major order, the rest is zero. Keeps where that is for backward, 4 bytes a result, and not x. Cost: a comparison
// an element. ShapeError for an axis that x has not or that is named twice, for no values to choose from, and for an x
// of 2^31 elements or more.
Tensor max(const Tensor& x, const std::vector<int>& axes = {}, bool keep = false);

extern const OpDef max_op;

}  // namespace parabola
