// The axes that a reduction goes over.
#pragma once
#include <vector>

#include "engine/core/op.h"

namespace parabola {

using AxisMask = uint32_t;  // bit i: axis i

struct ReduceAttributes {
  AxisMask axes = 0;
  bool keep = false;  // the axes stay, with size 1
};

// The named axes of x (negative: counted from the end; none named: all). ShapeError, naming `op`, for an axis that x
// has not or that is named twice.
ReduceAttributes reduce_attributes(const char* op, const Tensor& x, const std::vector<int>& axes, bool keep);

// `shape` without the axes; with `keep`, they stay with size 1.
Shape reduced_shape(const Shape& shape, AxisMask axes, bool keep);

}  // namespace parabola
