#include "engine/ops/concat.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::concat_test {

using namespace test;

namespace {

void check_concat(const std::string& name, int axis, const std::vector<Input>& inputs) {
  check_op({.name = name,
            .op = &concat_op,
            .inputs = inputs,
            .attributes = ConcatAttributes{axis},
            .reference = [&](const std::vector<Array>& in) {
              Array y;
              for (int64_t outer = 0; outer < inputs[0].shape.product(0, axis); ++outer) {
                for (size_t i = 0; i < in.size(); ++i) {
                  const int64_t piece = inputs[i].shape.product(axis, inputs[i].shape.rank());
                  y.insert(y.end(), in[i].begin() + outer * piece, in[i].begin() + (outer + 1) * piece);
                }
              }
              return std::vector<Array>{y};
            }});
}

}  // namespace

TEST_CASE("concat") {
  check_concat("first axis", 0, {{.shape = {2, 3}}, {.shape = {1, 3}}, {.shape = {4, 3}}});
  check_concat("last axis, one frozen", 1,
               {{.shape = {3, 2}}, {.shape = {3, 5}, .gradient = false}, {.shape = {3, 1}}});
  check_concat("an axis in between", 1, {{.shape = {2, 3, 2}}, {.shape = {2, 1, 2}}});
  check_concat("one tensor", 0, {{.shape = {5}}});
  check_concat("over more than one task", 1, {{.shape = {3, 9001}}, {.shape = {3, 7}}});
}

TEST_CASE("concat: an axis from the end") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2}, {2, 1}), y = Tensor::from(std::vector<float>{3, 4}, {2, 1});
  CHECK(concat({x, y, x}, -1).to_vector<float>() == std::vector<float>{1, 3, 1, 2, 4, 2});
}

TEST_CASE("concat says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1), y = Tensor::full({2, 4}, 1);
  CHECK_THROWS_WITH_AS(concat({x, y}, 0), "[concat] got [2, 3] and [2, 4], expected equal sizes but on axis 0",
                       ShapeError);
  CHECK_THROWS_AS(concat({x, Tensor::full({3}, 1)}, 0), ShapeError);
  CHECK_THROWS_WITH_AS(concat({x}, 2), "[concat] no such axis: got 2 for shape [2, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(concat({x, Tensor::full({2, 3}, 1, DType::f64)}, 0),
                       "[concat] got f32 and f64, expected one dtype", DTypeError);
  CHECK_THROWS_WITH_AS(concat({}, 0), "[concat] got 0 tensors, expected 1 to 64", UsageError);
  CHECK_THROWS_AS(concat(std::vector<Tensor>(65, x), 0), UsageError);
}

}  // namespace parabola::concat_test
