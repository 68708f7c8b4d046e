// What ops that work element by element have in common.
#pragma once
#include "engine/core/op.h"

namespace parabola {

// Elements a task handles: 64 KiB of floats, so that a task's few streams stay in a core's L2 cache.
constexpr int64_t elementwise_grain = 1 << 14;

// One output of the first input's shape and dtype.
inline Layout same_as_input(const Signature& s) { return {.outputs = {s.inputs[0]}}; }

// Writing a gradient, the first one or one more, as types: a loop over either has no branch and becomes vector code.
//   with_writer(args.accumulates(0), [&](auto put) { for (...) put(dx[i], d); });
struct Store {
  template <class T>
  void operator()(T& to, T value) const {
    to = value;
  }
};
struct Accumulate {
  template <class T>
  void operator()(T& to, T value) const {
    to += value;
  }
};
template <class Body>
void with_writer(bool accumulate, Body&& body) {
  accumulate ? body(Accumulate{}) : body(Store{});
}

// Flops per element forward and backward; bytes: x in, y out; backward reads two tensors and writes one.
inline StepCost elementwise_cost(const Signature& s, double forward_flops, double backward_flops) {
  const double n = static_cast<double>(s.shape(0).elements()), bytes = static_cast<double>(s.inputs[0].bytes());
  return {{n * forward_flops, bytes, bytes}, {n * backward_flops, 2 * bytes, bytes}};
}

}  // namespace parabola
