#include "engine/ops/pad.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::pad_test {

using namespace test;

namespace {

Array pad_reference(const Array& x, const Shape& shape, const PadAttributes& a) {
  Shape out = shape;
  for (int axis = 0; axis < shape.rank(); ++axis) out = out.with(axis, a.before[axis] + shape[axis] + a.after[axis]);
  Array y(static_cast<size_t>(out.elements()));
  for (int64_t i = 0; i < shape.elements(); ++i) {
    int64_t rest = i, at = 0, stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      at += (rest % shape[axis] + a.before[axis]) * stride;
      rest /= shape[axis];
      stride *= out[axis];
    }
    y[static_cast<size_t>(at)] = x[static_cast<size_t>(i)];
  }
  return y;
}

void check_pad(const std::string& name, const Shape& shape, const PadAttributes& attributes) {
  check_op({.name = name,
            .op = &pad_op,
            .inputs = {{.shape = shape}},
            .attributes = attributes,
            .reference = [&](const std::vector<Array>& in) {
              return std::vector<Array>{pad_reference(in[0], shape, attributes)};
            }});
}

}  // namespace

TEST_CASE("pad") {
  check_pad("an image", {2, 3, 5, 2}, {.before = {0, 1, 2, 0}, .after = {0, 2, 1, 0}});
  check_pad("channels", {2, 3, 3}, {.before = {0, 0, 1}, .after = {0, 0, 2}});
  check_pad("nothing", {3, 5}, {});
  check_pad("only behind, over more than one task", {2, 9001}, {.after = {1, 3}});
}

TEST_CASE("pad: values") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2}, {1, 2});
  const Tensor y = pad(x, {1, 0}, {0, 1});
  CHECK(y.shape() == Shape{2, 3});
  CHECK(y.to_vector<float>() == std::vector<float>{0, 0, 0, 1, 2, 0});
}

TEST_CASE("pad says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(pad(x, {1}, {1, 1}), "[pad] got 1 sizes before and 2 after, expected 2 each for shape [2, 3]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(pad(x, {0, -1}, {0, 1}), "[pad] got -1 and 1 on axis 1, expected at least 0", ShapeError);
}

}  // namespace parabola::pad_test
