// Long chains: neither recursion nor time that grows with the square of the length.
#include <doctest/doctest.h>

#include "engine/core/memory.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "tests/tape/test_ops.h"

namespace parabola::deep_test {

using namespace test;

namespace {

constexpr int deep = 100000;  // a frame of 100 bytes each would overflow a stack of 8 MiB

}  // namespace

TEST_CASE("deep: a chain of 100,000 nodes is replayed from its beginning") {
  const Tensor x = leaf({1});
  const size_t before = activation_bytes();
  {
    Tape tape({.checkpoint = Checkpoint::blocks});
    Tensor y = x;
    for (int i = 0; i < deep; ++i) y = scale(y, i % 2 == 0 ? 2 : 0.5F);
    const Tensor loss = squared(y);
    y = Tensor();
    CHECK(activation_bytes() - before == sizeof(float));
    calls = {};
    Memory::of({}).reset_peak();
    tape.backward(loss);
    CHECK(calls == Calls{.replay = deep, .backward = deep + 1});
    // A stepping stone goes as soon as the next one is there. Then: two gradients, and square's input and output.
    CHECK(Memory::of({}).peak_activation_bytes() - before <= 4 * sizeof(float));
  }
  CHECK(x.gradient().item() == 2);
  CHECK(activation_bytes() == before);
}

TEST_CASE("deep: 100,000 claims are released when the last value of a chain dies") {
  const Tensor x = leaf({1});
  const size_t before = activation_bytes();
  const Tape tape({.checkpoint = Checkpoint::blocks});
  Tensor y = squared(x);
  for (int i = 0; i < deep; ++i) y = scale(y, 1);
  const PolicyScope save(Policy::save);
  Tensor end = scale(y, 1);
  y = Tensor();
  end = Tensor();
  CHECK(activation_bytes() == before);
}

TEST_CASE("deep: many values of a chain, each read by a branch, are replayed once each") {
  constexpr int length = 2000;
  const Tensor x = leaf({1});
  Tape tape({.checkpoint = Checkpoint::blocks});
  Tensor y = x, total = scale(x, 0);
  for (int i = 0; i < length; ++i) {
    y = scale(y, i % 2 == 0 ? 2 : 0.5F);
    total = total + relu(y);  // relu reads its output only, so that nothing else keeps y
  }
  calls = {};
  const Tensor loss = sum(total);
  y = total = Tensor();
  tape.backward(loss);
  CHECK(calls.replay == length);
  CHECK(x.gradient().item() == 1.5F * length);
}

TEST_CASE("deep: a ladder of diamonds, each op once") {
  constexpr int length = 1000;  // 2^1000 paths
  const Tensor x = leaf({1});
  Tape tape({.checkpoint = Checkpoint::blocks});
  Tensor y = x;
  for (int i = 0; i < length; ++i) y = scale(y, 0.5F) + scale(y, 0.5F);
  const Tensor loss = squared(y);
  y = Tensor();
  calls = {};
  tape.backward(loss);
  CHECK(calls.replay == 2 * length);
  CHECK(x.gradient().item() == 2);
}

TEST_CASE("deep: a leaf that is used 100,000 times") {
  const Tensor x = leaf({0.5F});
  Tape tape;
  Tensor y = scale(x, 0);
  for (int i = 0; i < deep; ++i) y = y + x;
  tape.backward(y);
  CHECK(x.gradient().item() == deep);
}

}  // namespace parabola::deep_test
