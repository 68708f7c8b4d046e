#include "engine/ops/max.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "engine/core/error.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::max_test {

using namespace test;

namespace {

Array max_reference(const Array& x, const Shape& shape, uint32_t axes) {
  Array y(static_cast<size_t>(reduced_shape(shape, axes, false).elements()), -INFINITY);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    int64_t rest = i, at = 0, stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const int64_t index = rest % shape[axis];
      rest /= shape[axis];
      if (axes >> axis & 1) continue;
      at += index * stride;
      stride *= shape[axis];
    }
    double& largest = y[static_cast<size_t>(at)];
    largest = std::max(largest, x[static_cast<size_t>(i)]);
  }
  return y;
}

void check_max(const char* name, const Shape& shape, uint32_t axes, bool keep = false) {
  check_op(
      {.name = name,
       .op = &max_op,
       .inputs = {{.shape = shape}},
       .attributes = ReduceAttributes{axes, keep},
       .reference = [&](const std::vector<Array>& in) { return std::vector<Array>{max_reference(in[0], shape, axes)}; },
       .max_differences = 20});
}

}  // namespace

TEST_CASE("max over any axes") {
  check_max("a scalar", {}, 0);
  check_max("no axis", {3, 5}, 0);
  check_max("all", {3, 5, 7}, 0b111);
  check_max("first", {5, 3}, 0b01);
  check_max("last", {5, 37}, 0b10, true);
  check_max("the middle", {3, 5, 7, 4}, 0b0110);
  check_max("first and last", {3, 5, 7}, 0b101, true);
  check_max("every second axis", {2, 3, 2, 3, 2, 3}, 0b010101);
  check_max("axes of one element", {1, 4, 1, 3}, 0b0101);
  check_max("no results", {0, 3}, 0b10);
  check_max("more than one task, rows", {201, 117}, 0b10);
  check_max("more than one task, columns", {117, 201}, 0b01);
}

TEST_CASE("max: the first of equal values gets the gradient; NaN and -inf come through") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1, 7, 7, -inf, -inf, -inf, nan, 9, nan};
  for (const int axis : {0, 1}) {
    std::vector<float> placed(9), expected(9);
    const auto at = [&](size_t row, size_t k) { return axis == 1 ? row * 3 + k : k * 3 + row; };
    for (size_t row = 0; row < 3; ++row)
      for (size_t k = 0; k < 3; ++k) placed[at(row, k)] = values[row * 3 + k];
    expected[at(0, 1)] = expected[at(1, 0)] = expected[at(2, 0)] = 1;
    const Tensor x = Tensor::from(placed, {3, 3});
    x.set_requires_gradient(true);
    Tape tape;
    const Tensor y = max(x, {axis});
    CHECK(y.at(0) == 7);
    CHECK(y.at(1) == -inf);
    CHECK(std::isnan(y.at(2)));
    tape.backward(sum(y));
    CHECK(x.gradient().to_vector<float>() == expected);
  }
}

TEST_CASE("golden: max") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("max", dtype);
    const Tensor x = golden.leaf("input");
    Tape tape;
    golden.check_gradients(max(x, {1}), {{"input", x}});
  }
}

TEST_CASE("max says what does not fit") {
  CHECK_THROWS_WITH_AS(max(Tensor::full({2, 3}, 1), {2}),
                       "[max] no such axis: got 2 for shape [2, 3], expected -2 to 1", ShapeError);
  CHECK_THROWS_WITH_AS(max(Tensor::full({2, 0}, 1), {1}),
                       "[max] got x of shape [2, 0], expected at least one value to choose from", ShapeError);
}

}  // namespace parabola::max_test
