#pragma once
#include "engine/core/op.h"

namespace parabola {

// y [..., classes]: 1 at each label of labels [...] (i32), 0 elsewhere; y of `dtype`, a floating one. No gradient.
// Recomputed by default. Cost: y is written. A label out of [0, classes): UsageError; on CUDA, where the host does not
// look at labels, its row becomes NaN. ShapeError for less than one class, DTypeError.
Tensor one_hot(const Tensor& labels, int64_t classes, DType dtype = DType::f32);

struct OneHotAttributes {
  int64_t classes = 0;
  DType dtype = DType::f32;
};
extern const OpDef one_hot_op;

}  // namespace parabola
