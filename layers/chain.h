// Calling one after the other.
#pragma once
#include <utility>

#include "engine/core/tensor.h"

namespace parabola {

// chain(x, f, g) is g(f(x)). Each value is let go as soon as the next one is
// there, so the tape may free it at once; nested calls hold all of theirs until the outermost has returned.
template <class... Steps>
Tensor chain(Tensor x, Steps&&... steps) {
  ((x = steps(std::move(x))), ...);
  return x;
}

}  // namespace parabola
