// Wrong use of a tape is said, and never gives a wrong gradient instead.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/optimizers.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/executor.h"
#include "engine/tape/tape.h"
#include "tests/tape/test_ops.h"

namespace parabola::errors_test {

using namespace test;

namespace {

// The message with which `body` fails.
template <class E, class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const E& error) {
    return error.what();
  }
  return "no error of this kind";
}

// Debug mode while it lives.
struct CheckFinite {
  CheckFinite() { Executor::instance().check_finite = true; }
  ~CheckFinite() { Executor::instance().check_finite = false; }
};

}  // namespace

TEST_CASE("tape errors: a tape serves one step") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  const Tensor loss = sum(squared(x));
  tape.backward(loss);
  CHECK_THROWS_WITH_AS(tape.backward(loss), "[backward] this tape has run backward already; a tape serves one step",
                       UsageError);
  CHECK_THROWS_WITH_AS(squared(x), "[test_squared] this tape has run backward; open a new one for the next step",
                       UsageError);
  CHECK(values_of(x.gradient()) == std::vector<float>{2, 4});
}

TEST_CASE("tape: updates of parameters run beside a tape that has run backward") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  tape.backward(sum(squared(x)));
  const size_t nodes = tape.nodes().size();
  const std::vector<Tensor> parameters = {x}, gradients = {x.gradient()};
  CHECK(gradient_norm(gradients).item() == doctest::Approx(std::sqrt(20.0)));
  Executor::instance().step.learning_rate = 0.25;
  sgd(parameters, gradients, {}, {});
  CHECK(values_of(x) == std::vector<float>{0.5, 1});
  CHECK(tape.nodes().size() == nodes);
}

TEST_CASE("tape errors: what cannot be a loss") {
  const Tensor x = leaf({1, 2}), frozen = leaf({1}, false);
  Tensor other;
  {
    Tape tape;
    other = sum(x);
  }
  Tape tape;
  CHECK_THROWS_WITH_AS(tape.backward(squared(x)), "[backward] got a loss of shape [2], expected one element",
                       ShapeError);
  CHECK_THROWS_WITH_AS(tape.backward(other), "[backward] the loss was not computed on this tape", UsageError);
  CHECK_THROWS_AS(tape.backward(frozen), UsageError);
  CHECK_THROWS_AS(tape.backward(Tensor()), UsageError);
  CHECK_THROWS_WITH_AS(tape.backward(squared(frozen)),
                       "[backward] the loss depends on no tensor that requires a gradient", UsageError);
  tape.backward(sum(x));  // after all these refusals the tape is as good as new
  CHECK(values_of(x.gradient()) == std::vector<float>{1, 1});
}

TEST_CASE("tape errors: a tensor of another open tape, also where it is a view of a leaf") {
  const Tensor x = leaf({1, 2});
  Tape outer;
  const Tensor y = squared(x), seen = reshape(x, {2, 1});
  Tape inner;
  CHECK_THROWS_WITH_AS(squared(y), "[tape] this [2] tensor was computed on another tape that is still open",
                       UsageError);
  CHECK_THROWS_WITH_AS(squared(seen), "[tape] this [2, 1] tensor was computed on another tape that is still open",
                       UsageError);
  CHECK_NOTHROW(squared(x));
}

TEST_CASE("tape errors: tapes of two threads never take each other's tensors for their own") {
  const Tensor x = leaf({1, 2});
  Tensor theirs;
  std::thread([&] {
    Tape tape;
    theirs = squared(x);
  }).join();
  Tape tape;
  const Tensor mine = scale(x, 3);
  CHECK_FALSE(theirs.tape() == tape.serial());
  tape.backward(sum(mine * theirs));
  CHECK(values_of(x.gradient()) == std::vector<float>{3, 12});
}

TEST_CASE("tape errors: a parameter that was changed between forward and backward is named by op, shape and scope") {
  for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
    const Tensor x = leaf({1, 2}), w = leaf({3, 4});
    Tape tape({.checkpoint = checkpoint});
    Tensor loss;
    {
      const Scope model("model"), block("block2");
      loss = sum(x * w);
    }
    w.copy_from(leaf({5, 6}));
    CHECK(message_of<UsageError>([&] { tape.backward(loss); }) ==
          "[multiply] an input of shape [2] was changed in place before backward; step the optimizer after backward "
          "(in model.block2)");
  }
}

TEST_CASE("tape errors: a change that only a replay would see is refused, too") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4}, false);
  Tape tape({.checkpoint = Checkpoint::blocks});
  Tensor loss;
  {
    const Scope block("block1");
    const Tensor y = x + w;  // addition reads nothing in backward
    const Scope inside("square");
    loss = sum(squared(y));
  }
  w.copy_from(leaf({5, 6}));
  // The scope is the replayed op's own, not the one of the op that asked for the replay.
  CHECK(message_of<UsageError>([&] { tape.backward(loss); }) ==
        "[add] an input of shape [2] was changed in place before backward; step the optimizer after backward (in "
        "block1)");
}

TEST_CASE("tape errors: a change of what nothing reads again does no harm") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4});
  Tape tape;
  const Tensor loss = sum(x + w);
  w.copy_from(leaf({5, 6}));
  tape.backward(loss);
  CHECK(values_of(w.gradient()) == std::vector<float>{1, 1});
}

TEST_CASE("tape errors: a change before a value's second use is no mistake for that second use") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4}, false);
  Tape tape;
  const Tensor first = x + w;
  w.copy_from(leaf({5, 6}));
  tape.backward(sum(first) + sum(x * w));
  CHECK(values_of(x.gradient()) == std::vector<float>{6, 7});
}

TEST_CASE("tape errors: a result that was changed in place is refused where backward reads it") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  const Tensor y = scale(x, 2);
  const Tensor loss = sum(squared(y));
  y.copy_from(leaf({7, 7}));
  CHECK_THROWS_AS(tape.backward(loss), UsageError);
}

TEST_CASE("tape errors: a view that the tape does not know of would lose its gradient") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  const Tensor y = squared(x);
  CHECK_THROWS_WITH_AS(squared(y.view({2, 1})),
                       "[tape] this [2, 1] tensor is a view of a result that the tape does not know of, so no gradient "
                       "would pass it; use view() or reshape() instead of Tensor::view",
                       UsageError);
}

TEST_CASE("tape errors: results of ops cannot become leaves") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  CHECK_THROWS_WITH_AS(squared(x).set_requires_gradient(true),
                       "[tensor] only a leaf can be asked for gradients; this one is computed by an op", UsageError);
}

TEST_CASE("tape errors: an absent first input is said before any kernel sees it, with a tape and without") {
  const auto check = [] {
    CHECK_THROWS_WITH_AS(relu(Tensor()), "[relu] input 0 is absent", UsageError);
    CHECK_THROWS_WITH_AS(view(Tensor(), {}), "[view] input 0 is absent", UsageError);
  };
  check();
  const Tape tape;
  check();
}

TEST_CASE("tape errors: more inputs than masks have bits") {
  const OpDef collect_op = {.name = "test_collect",
                            .layout = [](const Signature&) { return Layout{.outputs = {{Shape{}}}}; },
                            .cpu = {[](const ForwardArgs& a) { *a.outputs[0].data<float>() = 0; }}};
  const std::vector<Tensor> inputs(65, leaf({1}));
  const Tape tape;
  CHECK_NOTHROW(parabola::apply(collect_op, std::span(inputs).first(64)));
  CHECK_THROWS_WITH_AS(parabola::apply(collect_op, inputs), "[test_collect] got 65 inputs, expected at most 64",
                       UsageError);
}

TEST_CASE("tape errors: an op without a kernel for the device") {
  const OpDef hollow_op = {.name = "test_hollow",
                           .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}}; }};
  CHECK_THROWS_WITH_AS(apply(hollow_op, {leaf({1})}), "[test_hollow] has no CPU kernel", DeviceError);
}

TEST_CASE("check_finite: names the op, the place and the scope of the first value that is not finite") {
  const CheckFinite debug;
  const Tensor x = leaf({1, std::numeric_limits<float>::infinity(), 2});
  const Scope block("block3");
  const std::string expected =
      "[test_scale] forward produced inf at flat index 1 of result 0 of shape [3], expected finite values (in block3)";
  CHECK(message_of<Error>([&] { scale(x, 2); }) == expected);
  const Tape tape;
  CHECK(message_of<Error>([&] { scale(x, 2); }) == expected);
}

TEST_CASE("check_finite: in backward, by the scope in which the op was recorded") {
  const CheckFinite debug;
  const Tensor x = leaf({1e-38F});
  Tape tape;
  Tensor loss;
  {
    const Scope block("block4");
    loss = scale(scale(x, 10), 3e38F);  // 30, and its derivative is 3e39
  }
  const Scope training("training");
  CHECK(message_of<Error>([&] { tape.backward(loss); }) ==
        "[test_scale] backward produced inf at flat index 0 of result 0 of shape [1], expected finite values (in "
        "block4)");
}

TEST_CASE("check_finite: off, nothing is looked for") {
  const Tensor x = leaf({std::numeric_limits<float>::quiet_NaN()});
  Tape tape;
  tape.backward(squared(x));
  CHECK(std::isnan(x.gradient().item()));
}

TEST_CASE("nodes carry the scope in which they were recorded") {
  const Tensor x = leaf({1});
  Tape tape;
  {
    const CheckpointScope block("block1", x);
    const Tensor y = squared(x);
    const Scope conv("conv");
    squared(y);
  }
  squared(x);
  REQUIRE(tape.nodes().size() == 3);
  CHECK(tape.nodes()[0].scope == "block1");
  CHECK(tape.nodes()[1].scope == "block1.conv");
  CHECK(tape.nodes()[2].scope.empty());
}

}  // namespace parabola::errors_test
