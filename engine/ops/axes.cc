#include "engine/ops/axes.h"

#include "engine/core/error.h"

namespace parabola {

ReduceAttributes reduce_attributes(const char* op, const Tensor& x, const std::vector<int>& axes, bool keep) {
  const int rank = x.shape().rank();
  if (axes.empty()) return {(AxisMask{1} << rank) - 1, keep};
  ReduceAttributes attributes{0, keep};
  for (const int axis : axes) {
    const int from_front = axis < 0 ? axis + rank : axis;
    if (from_front < 0 || from_front >= rank) {
      fail<ShapeError>(op, "no such axis: got ", axis, " for shape ", x.shape(), ", expected ", -rank, " to ",
                       rank - 1);
    }
    if (attributes.axes >> from_front & 1) fail<ShapeError>(op, "axis ", axis, " is named twice");
    attributes.axes |= AxisMask{1} << from_front;
  }
  return attributes;
}

Shape reduced_shape(const Shape& shape, AxisMask axes, bool keep) {
  std::vector<int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (!(axes >> axis & 1)) {
      sizes.push_back(shape[axis]);
    } else if (keep) {
      sizes.push_back(1);
    }
  }
  return Shape(std::span<const int64_t>(sizes));
}

}  // namespace parabola
