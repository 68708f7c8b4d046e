#pragma once
#include <vector>

#include "engine/core/op.h"

namespace parabola {

// The tensors one after the other along `axis` (negative: counted from the end); their other sizes and dtypes are
// equal. Between 1 and 64 of them. Nothing is kept for backward, which cuts dy apart. Recomputed by default.
// ShapeError, DTypeError.
Tensor concat(const std::vector<Tensor>& tensors, int axis);

struct ConcatAttributes {
  int axis = 0;
};
extern const OpDef concat_op;

}  // namespace parabola
