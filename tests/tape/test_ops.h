// Small ops (f32) with which the tape's tests compute by hand what must stay and what must be replayed. They are
// written as a user would write one, outside of the engine.
//   op       y                           backward reads    default policy
//   scale    factor * x                  nothing           save
//   squared  x * x                       the input         save
//   cube     x * x * x                   auxiliary x * x   recompute
//   powers   x * x and x * x * x         the input         recompute
//   noise    x * u, u drawn in [0, 1)    nothing           recompute
//   count    x; adds 1 to its counter    nothing           recompute
#pragma once
#include <string>
#include <vector>

#include "engine/core/op.h"

namespace parabola::test {

extern const OpDef scale_op, squared_op, cube_op, powers_op, noise_op, count_op;

Tensor scale(const Tensor& x, float factor);
Tensor squared(const Tensor& x);
Tensor cube(const Tensor& x);
std::vector<Tensor> powers(const Tensor& x);
Tensor noise(const Tensor& x);
Tensor count(const Tensor& x, const Tensor& counter);

// How often kernels of the ops above ran since this was last set to {}.
struct Calls {
  int forward = 0, replay = 0, backward = 0;
  bool operator==(const Calls&) const = default;
};
extern Calls calls;

// The next time that kernels of the ops above would run `kind` for the (after + 1)th time, an Error is thrown instead,
// when half of the results are written. Then, or by set_fault(Fault::none), that is over.
enum class Fault { none, forward, replay, backward };
void set_fault(Fault kind, int after = 0);

Tensor leaf(const std::vector<float>& values, bool trained = true);  // of rank 1
std::vector<float> values_of(const Tensor& tensor);

size_t activation_bytes();
// After a step, also one that failed: no bytes beyond those before it, no tape, no scope.
void require_nothing_left(size_t bytes_before);

}  // namespace parabola::test
