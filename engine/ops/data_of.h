// Inputs that an op may do without.
#pragma once
#include <span>

#include "engine/core/op.h"

namespace parabola {

// Null for a tensor that is absent, and so for the last ones where a caller gave fewer.
template <class T>
T* data_of(std::span<const TensorView> tensors, int i) {
  return static_cast<size_t>(i) < tensors.size() ? tensors[static_cast<size_t>(i)].data<T>() : nullptr;
}

}  // namespace parabola
