// Gradients that take the place of the one that they are computed from.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/unary.h"
#include "engine/tape/plan.h"

namespace parabola::in_place_test {

namespace {

Tensor leaf(int64_t elements) {
  Tensor x = Tensor::full({elements}, 2, DType::f64);
  x.set_requires_gradient(true);
  return x;
}

}  // namespace

TEST_CASE("in place: a chain of ops that go element by element has one gradient in backward") {
  const Tensor x = leaf(1000);
  // What backward reads are the three results; beside them there is one gradient, and the loss with its own.
  const Plan plan = plan_step({.checkpoint = Checkpoint::none}, [&] { return sum(sigmoid(exp(tanh(x)))); });
  CHECK(plan.peak_bytes == (3 + 1) * x.bytes() + 2 * sizeof(double));
}

TEST_CASE("in place: not where a gradient is there already, or another term reads it still") {
  const Tensor y = leaf(3);
  Tape tape;
  const Tensor a = neg(y), b = exp(a);
  tape.backward(sum(subtract(add(b, b), multiply(b, a))));  // (2 - a) e^a with a = -y
  for (int i = 0; i < 3; ++i) CHECK(y.gradient().at(i) == doctest::Approx(-(2 + 2 - 1) * std::exp(-2.0)));
}

}  // namespace parabola::in_place_test
