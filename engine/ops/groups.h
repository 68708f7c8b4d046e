// A tensor as groups of elements, one group for each result of a reduction.
#pragma once
#include "engine/ops/axes.h"
#include "engine/ops/walk.h"

namespace parabola {

// Element k of result i's group lies at `results`' place i plus `terms`' place k (each walk's operand a).
struct Groups {
  Walk results, terms;

  Groups(const Shape& x, AxisMask axes)
      : results(reduced_shape(x, axes, true), strides_of(x), {}),
        terms(reduced_shape(x, ~axes, true), strides_of(x), {}) {}
};

}  // namespace parabola
