#pragma once
#include "engine/core/op.h"

namespace parabola {

// Elements begin, begin + step, ... below end of one axis (negative: counted from the end); the other axes whole.
// 0 <= begin < end <= size and step >= 1, else ShapeError. Where the result lies in one piece (the first axis that has
// more than one element, step 1) it is a view, else a copy, recomputed by default. dx is zero outside of the slice.
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end, int64_t step = 1);

struct SliceAttributes {
  int axis = 0;
  int64_t begin = 0, end = 0, step = 1;
};
extern const OpDef slice_op;

}  // namespace parabola
