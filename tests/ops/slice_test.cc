#include "engine/ops/slice.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::slice_test {

using namespace test;

namespace {

void check_slice(const std::string& name, const Shape& shape, const SliceAttributes& a) {
  check_op({.name = name,
            .op = &slice_op,
            .inputs = {{.shape = shape}},
            .attributes = a,
            .reference = [&](const std::vector<Array>& in) {
              Array y;
              const int64_t inner = shape.product(a.axis + 1, shape.rank());
              for (int64_t i = 0; i < shape.elements(); ++i) {
                const int64_t index = i / inner % shape[a.axis];
                if (index >= a.begin && index < a.end && (index - a.begin) % a.step == 0)
                  y.push_back(in[0][static_cast<size_t>(i)]);
              }
              return std::vector<Array>{y};
            }});
}

}  // namespace

TEST_CASE("slice") {
  check_slice("the last axis", {3, 7}, {.axis = 1, .begin = 2, .end = 5});
  check_slice("an axis in between", {2, 5, 3}, {.axis = 1, .begin = 1, .end = 4});
  check_slice("the first axis in steps", {7, 3}, {.axis = 0, .begin = 1, .end = 7, .step = 2});
  check_slice("the last axis in steps that do not end at its end", {2, 8},
              {.axis = 1, .begin = 0, .end = 8, .step = 3});
  check_slice("one element", {4}, {.axis = 0, .begin = 3, .end = 4});
  check_slice("all, over more than one task", {3, 9001}, {.axis = 1, .begin = 0, .end = 9001});
}

TEST_CASE("a slice that lies in one piece is a view, any other one a copy") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {1, 3, 2});
  CHECK(slice(x, 1, 1, 3).data<float>() == x.data<float>() + 2);
  CHECK(slice(x, 1, 1, 3).shape() == Shape{1, 2, 2});
  CHECK(slice(x, -1, 1, 2).to_vector<float>() == std::vector<float>{2, 4, 6});
  CHECK(slice(x, 1, 0, 3, 2).to_vector<float>() == std::vector<float>{1, 2, 5, 6});
  const Tensor labels = Tensor::from(std::vector<int32_t>{4, 5, 6}, {3});
  CHECK(slice(labels, 0, 1, 3).to_vector<int32_t>() == std::vector<int32_t>{5, 6});
}

TEST_CASE("slice says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(slice(x, 2, 0, 1), "[slice] no such axis: got 2 for shape [2, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(
      slice(x, 1, 1, 4),
      "[slice] got [1, 4) in steps of 1 on axis 1 of [2, 3], expected 0 <= begin < end <= 3 and a step "
      "of at least 1",
      ShapeError);
  CHECK_THROWS_AS(slice(x, 1, 1, 1), ShapeError);
  CHECK_THROWS_AS(slice(x, 1, 0, 1, 0), ShapeError);
}

}  // namespace parabola::slice_test
