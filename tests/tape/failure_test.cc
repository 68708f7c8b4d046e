// Whatever throws inside of a step: the tape closes, all activation bytes come back, and the next step is as if nothing
// had happened.
#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "tests/support/test.h"
#include "tests/tape/test_ops.h"

namespace parabola::failure_test {

using namespace test;

namespace {

constexpr Checkpoint policies[] = {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks};

Tensor net(const Tensor& x) {
  const Scope model("model");
  const Tensor y = cube(squared(noise(x)));
  const CheckpointScope block("block", y);
  const std::vector<Tensor> both = powers(reshape(y, {2, 2}));
  return sum(squared(scale(reshape(both[1], {4}), 2)) + y);
}

std::vector<float> gradient_of_step(const Tensor& x, Checkpoint checkpoint) {
  Tape tape({.checkpoint = checkpoint});
  tape.backward(net(x));
  return values_of(x.gradient());
}

// An op that needs far more workspace than there is.
Layout greedy_layout(const Signature& s) {
  constexpr size_t much = size_t{1} << 60;
  const size_t forward = s.attributes.get<bool>() ? much : 0, backward = s.attributes.get<bool>() ? 0 : much;
  return {.outputs = {s.inputs[0]},
          .auxiliary = {s.inputs[0]},
          .forward_workspace = forward,
          .backward_workspace = backward};
}
const OpDef greedy_op = {
    .name = "test_greedy", .layout = greedy_layout, .cpu = {[](const ForwardArgs&) {}, [](const BackwardArgs&) {}}};

}  // namespace

TEST_CASE("failure: in forward, replay or backward, 1,000 times, leaves no byte, no tape and no scope behind") {
  const Tensor x = leaf({0.5F, -1, 2, 0.25F});
  const std::vector<float> expected = gradient_of_step(x, Checkpoint::none);
  const size_t before = activation_bytes();
  int failures = 0;
  for (int i = 0; i < 1000; ++i) {
    const Fault kind = i % 3 == 0 ? Fault::forward : i % 3 == 1 ? Fault::replay : Fault::backward;
    x.zero_gradient();
    set_fault(kind, i / 3 % 6);
    try {
      gradient_of_step(x, policies[i / 18 % 3]);
    } catch (const Error&) {
      ++failures;
    }
    set_fault(Fault::none);
    require_nothing_left(before);
  }
  CHECK(failures > 750);  // all but replays under policies that replay less
  for (const Checkpoint checkpoint : policies) {
    x.zero_gradient();
    CHECK(gradient_of_step(x, checkpoint) == expected);
  }
}

TEST_CASE("failure: values that are held outlive the failed tape") {
  const Tensor x = leaf({1, 2, 3, 4});
  const size_t before = activation_bytes();
  {
    Tensor held;
    {
      Tape tape({.checkpoint = Checkpoint::blocks});
      held = squared(x);
      const Tensor loss = sum(cube(held));
      set_fault(Fault::backward);
      CHECK_THROWS_AS(tape.backward(loss), Error);
      CHECK_THROWS_AS(tape.backward(loss), UsageError);
    }
    CHECK(values_of(held) == std::vector<float>{1, 4, 9, 16});
  }
  CHECK(activation_bytes() == before);
}

TEST_CASE("failure: in backward, a leaf shows no gradient that was only half written") {
  const Tensor x = leaf({1, 2, 3, 4});
  Tape tape;
  const Tensor loss = sum(scale(x, 2));
  set_fault(Fault::backward);
  CHECK_THROWS_AS(tape.backward(loss), Error);
  CHECK_FALSE(x.gradient());
  Tape again;
  again.backward(sum(scale(x, 3)));
  CHECK(values_of(x.gradient()) == std::vector<float>{3, 3, 3, 3});
}

TEST_CASE("failure: memory that is not there, in forward and in backward") {
  const Tensor x = leaf({1});
  const size_t before = activation_bytes();
  for (int i = 0; i < 100; ++i) {
    CHECK_THROWS_AS(apply(greedy_op, {x}, true), MemoryError);
    Tape tape;
    CHECK_THROWS_AS(apply(greedy_op, {x}, true), MemoryError);
    const Tensor loss = apply(greedy_op, {x}, false);
    CHECK_THROWS_AS(tape.backward(loss), MemoryError);
  }
  CHECK(activation_bytes() == before);
}

TEST_CASE("failure: shapes that do not fit leave the tape usable") {
  const Tensor x = leaf({1, 2}), other = leaf({1, 2, 3});
  Tape tape;
  const Tensor y = squared(x);
  CHECK_THROWS_AS(y + other, ShapeError);
  tape.backward(sum(y));
  CHECK(values_of(x.gradient()) == std::vector<float>{2, 4});
}

}  // namespace parabola::failure_test
