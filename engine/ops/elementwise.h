// What ops that work element by element have in common.
#pragma once
#include "engine/core/op.h"

namespace parabola {

// Elements a task handles: 64 KiB of floats, so that a task's few streams stay in a core's L2 cache.
constexpr int64_t elementwise_grain = 1 << 14;

// Before a loop whose iterations do not depend on each other, though an element may be written where one of the same
// index was read (gradient_in_place): without it the compiler looks for an overlap and then takes the loop without
// vectors.
#if defined(__clang__)
#define PARABOLA_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define PARABOLA_INDEPENDENT _Pragma("GCC ivdep")
#endif

// to[i] = value(i), or += where `accumulate`, for i in [begin, end). Two loops: from a long one the compiler does not
// take the question out, and then it cannot vectorise it.
template <class T, class Value>
void store_or_add(T* to, bool accumulate, int64_t begin, int64_t end, Value value) {
  if (accumulate) {
    PARABOLA_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) to[i] += value(i);
  } else {
    PARABOLA_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) to[i] = value(i);
  }
}

// One output of the first input's shape and dtype.
inline Layout same_as_input(const Signature& s) { return {.outputs = {s.inputs[0]}}; }

// Flops per element forward and backward; bytes: x in, y out; backward reads two tensors and writes one.
inline StepCost elementwise_cost(const Signature& s, double forward_flops, double backward_flops) {
  const double n = static_cast<double>(s.shape(0).elements()), bytes = static_cast<double>(s.inputs[0].bytes());
  return {{n * forward_flops, bytes, bytes}, {n * backward_flops, 2 * bytes, bytes}};
}

}  // namespace parabola
