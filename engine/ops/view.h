#pragma once
#include "engine/core/op.h"

namespace parabola {

// x's elements with another shape of as many elements: no copy, any dtype. ShapeError where the numbers differ.
Tensor reshape(const Tensor& x, const Shape& shape);

// The elements of x from flat index `offset` on, with `shape`: no copy, any dtype. The gradient goes into that range,
// the rest of dx is zero. ShapeError where the range is not inside of x.
Tensor view(const Tensor& x, const Shape& shape, int64_t offset = 0);

struct ViewAttributes {
  Shape shape;
  int64_t offset = 0;
};
extern const OpDef view_op;

}  // namespace parabola
