// Gradients of small compositions, computed by hand.
#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/tape/test_ops.h"

namespace parabola::gradient_test {

using namespace test;

namespace {

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("gradient: a chain") {
  const Tensor x = leaf({1, -2, 3});
  Tape tape;
  tape.backward(sum(squared(scale(relu(x), 3))));  // (3 relu(x))^2
  CHECK(values_of(x.gradient()) == Floats{18, 0, 54});
}

TEST_CASE("gradient: of a product, with a frozen factor and without") {
  const Tensor a = leaf({1, 2}), b = leaf({5, 7}), frozen = leaf({3, 4}, false);
  {
    Tape tape;
    tape.backward(sum(a * b));
  }
  CHECK(values_of(a.gradient()) == Floats{5, 7});
  CHECK(values_of(b.gradient()) == Floats{1, 2});
  {
    Tape tape;
    tape.backward(sum(a * frozen));
  }
  CHECK(values_of(a.gradient()) == Floats{8, 11});
  CHECK_FALSE(frozen.gradient());
}

TEST_CASE("gradient: a value that is used more than once, in one op and in several") {
  const Tensor x = leaf({1, 2, 3});
  SUBCASE("twice in one op") {
    Tape tape;
    tape.backward(sum(x * x));
    CHECK(values_of(x.gradient()) == Floats{2, 4, 6});
  }
  SUBCASE("twice in one op, which is not the only one") {
    Tape tape;
    const Tensor y = scale(x, 2), z = y * y;  // 4x^2 + 2x + (2x)^2
    tape.backward(sum(z + y + squared(y)));
    CHECK(values_of(x.gradient()) == Floats{18, 34, 50});
  }
  SUBCASE("in several ops") {
    Tape tape;
    tape.backward(sum(scale(x, 2) + squared(x) + cube(x)));
    CHECK(values_of(x.gradient()) == Floats{2 + 2 + 3, 2 + 4 + 12, 2 + 6 + 27});
  }
  SUBCASE("a product of products") {
    Tape tape;
    const Tensor square_of_x = x * x;
    tape.backward(sum(square_of_x * square_of_x));
    CHECK(values_of(x.gradient()) == Floats{4, 32, 108});
  }
}

TEST_CASE("gradient: through views") {
  const Tensor x = leaf({1, 2, 3, 4});
  Tape tape;
  const Tensor y = scale(x, 2), matrix = reshape(y, {2, 2}), tail = view(matrix, {2}, 2);  // 2x3, 2x4
  tape.backward(sum(squared(tail)) + sum(y) + sum(matrix * matrix));
  // 4x^2 of the last two, 2x of all, 4x^2 of all.
  CHECK(values_of(x.gradient()) == Floats{10, 18, 24 + 26, 32 + 34});
}

TEST_CASE("gradient: a leaf and a view of it are one leaf") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  tape.backward(sum(x * reshape(reshape(x, {2, 1}), {2})));
  CHECK(values_of(x.gradient()) == Floats{2, 4});
}

TEST_CASE("gradient: several outputs, all used, some, or none") {
  const Tensor x = leaf({1, 2, 3});
  SUBCASE("both") {
    Tape tape;
    const std::vector<Tensor> y = powers(x);
    tape.backward(sum(y[0] * y[1]));  // x^5
    CHECK(values_of(x.gradient()) == Floats{5, 80, 405});
  }
  SUBCASE("only the second") {
    Tape tape;
    tape.backward(sum(powers(x)[1]));
    CHECK(values_of(x.gradient()) == Floats{3, 12, 27});
  }
  SUBCASE("none: such a branch costs nothing in backward") {
    Tape tape;
    const std::vector<Tensor> unused = powers(x);
    const Tensor dead_end = cube(unused[0]), loss = sum(scale(x, 4));
    calls = {};
    tape.backward(loss);
    CHECK(values_of(x.gradient()) == Floats{4, 4, 4});
    CHECK(calls == Calls{.backward = 1});
  }
}

TEST_CASE("gradient: nodes after the loss do not count") {
  const Tensor x = leaf({1, 2});
  Tape tape;
  const Tensor loss = sum(squared(x));
  const Tensor later = squared(loss) + sum(cube(x));
  tape.backward(loss);
  CHECK(values_of(x.gradient()) == Floats{2, 4});
}

TEST_CASE("gradient: a loss that is used further counts only as a loss") {
  const Tensor x = leaf({3});
  Tape tape;
  const Tensor y = squared(x), more = scale(y, 5);
  tape.backward(y);
  CHECK(values_of(x.gradient()) == Floats{6});
}

TEST_CASE("gradient: adds up over tapes until zero_gradient, in the same buffer") {
  const Tensor x = leaf({1, 2});
  const auto step = [&](float factor) {
    Tape tape;
    tape.backward(sum(scale(x, factor)));
  };
  step(1);
  const std::byte* buffer = x.gradient().raw();
  CHECK(x.gradient().storage()->category() == Category::gradients);
  step(2);
  CHECK(values_of(x.gradient()) == Floats{3, 3});
  x.zero_gradient();
  CHECK_FALSE(x.gradient());
  step(5);
  CHECK(values_of(x.gradient()) == Floats{5, 5});
  CHECK(x.gradient().raw() == buffer);
}

TEST_CASE("gradient: two handles on one leaf are one leaf") {
  const Tensor x = leaf({1, 2}), same = x;
  Tape tape;
  tape.backward(sum(x * same));
  CHECK(values_of(x.gradient()) == Floats{2, 4});
}

TEST_CASE("gradient: a leaf that is thawed after its first use has the gradient of its later ones") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4});
  w.set_requires_gradient(false);
  Tape tape;
  const Tensor frozen = x * w;
  w.set_requires_gradient(true);
  tape.backward(sum(frozen) + sum(scale(w, 5)));
  CHECK(values_of(w.gradient()) == Floats{5, 5});
}

TEST_CASE("gradient: nothing for frozen leaves, and no backward above them") {
  const Tensor frozen = leaf({1, 2}, false), x = leaf({3, 4});
  Tape tape;
  const Tensor features = cube(squared(frozen));  // no leaf below it wants a gradient
  const Tensor loss = sum(features * x);
  calls = {};
  tape.backward(loss);
  CHECK(calls.backward == 0);
  CHECK(values_of(x.gradient()) == Floats{1, 64});
  CHECK_FALSE(frozen.gradient());
}

TEST_CASE("gradient: a result of a dead tape is a constant for the next one") {
  const Tensor x = leaf({1, 2}), w = leaf({5, 6});
  Tensor y;
  {
    Tape tape;
    y = squared(x);
  }
  Tape tape;
  tape.backward(sum(y * w));
  CHECK(values_of(w.gradient()) == Floats{1, 4});
  CHECK_FALSE(x.gradient());
}

TEST_CASE("gradient: an op without backward, and integers, end the path") {
  const OpDef index_op = {.name = "test_index",
                          .layout =
                              [](const Signature& s) {
                                return Layout{.outputs = {{s.shape(0), DType::i32}, s.inputs[0]}};
                              },
                          .cpu = {[](const ForwardArgs& a) {
                                    for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i) {
                                      a.outputs[0].data<int32_t>()[i] = static_cast<int32_t>(i);
                                      a.outputs[1].data<float>()[i] = 2 * a.inputs[0].data<float>()[i];
                                    }
                                  },
                                  [](const BackwardArgs& a) {
                                    CHECK_FALSE(a.output_gradients[0]);  // an integer has no gradient
                                    CHECK(a.output_gradients[0].shape == Shape{2});
                                    for (int64_t i = 0; i < 2; ++i)
                                      a.input_gradients[0].data<float>()[i] =
                                          2 * a.output_gradients[1].data<float>()[i];
                                  }}};
  // Multiplies by an index, whose gradient nobody must want.
  const OpDef times_op = {
      .name = "test_times",
      .layout =
          [](const Signature& s) {
            CHECK_FALSE(s.wants_gradient(1));
            return Layout{.outputs = {s.inputs[0]}};
          },
      .needs = [](const Signature&) { return Needs{.inputs = 2}; },
      .cpu = {[](const ForwardArgs& a) {
                for (int64_t i = 0; i < 2; ++i)
                  a.outputs[0].data<float>()[i] =
                      a.inputs[0].data<float>()[i] * static_cast<float>(a.inputs[1].data<int32_t>()[i]);
              },
              [](const BackwardArgs& a) {
                CHECK_FALSE(a.wants(1));
                for (int64_t i = 0; i < 2; ++i)
                  a.input_gradients[0].data<float>()[i] =
                      a.output_gradients[0].data<float>()[i] * static_cast<float>(a.inputs[1].data<int32_t>()[i]);
              }}};
  const OpDef steps_op = {.name = "test_steps",
                          .layout = [](const Signature& s) { return Layout{.outputs = {s.inputs[0]}}; },
                          .cpu = {[](const ForwardArgs& a) {
                            for (int64_t i = 0; i < 2; ++i)
                              a.outputs[0].data<float>()[i] = a.inputs[0].data<float>()[i] > 3 ? 1 : 0;
                          }}};
  const Tensor x = leaf({3, 4});
  Tape tape;
  const std::vector<Tensor> y = apply(index_op, std::span<const Tensor>(&x, 1));
  const Tensor steps = apply(steps_op, {x});
  tape.backward(sum(apply(times_op, {y[1], y[0]}) * steps));
  CHECK(values_of(x.gradient()) == Floats{0, 2});
}

TEST_CASE("gradient: tapes nest; each records what is applied while it is the innermost") {
  const Tensor x = leaf({2}), w = leaf({3});
  Tape outer;
  CHECK(Tape::current() == &outer);
  const Tensor y = squared(x);
  {
    Tape inner;
    CHECK(Tape::current() == &inner);
    inner.backward(squared(w));
    CHECK(inner.nodes().size() == 1);
  }
  CHECK(Tape::current() == &outer);
  outer.backward(scale(y, 2));
  CHECK(outer.nodes().size() == 2);
  CHECK(values_of(w.gradient()) == Floats{6});
  CHECK(values_of(x.gradient()) == Floats{8});
}

TEST_CASE("gradient: scalars and empty tensors") {
  const Tensor x = Tensor::from(Floats{3}, {}), none = leaf({});
  x.set_requires_gradient(true);
  Tape tape;
  tape.backward(squared(x) + sum(squared(none)));
  CHECK(x.gradient().item() == 6);
  CHECK(none.gradient().shape() == Shape{0});
}

}  // namespace parabola::gradient_test
