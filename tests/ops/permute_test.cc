#include "engine/ops/permute.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::permute_test {

using namespace test;

namespace {

void check_permute(const std::string& name, const Shape& shape, const PermuteAttributes& attributes) {
  check_op({.name = name,
            .op = &permute_op,
            .inputs = {{.shape = shape}},
            .attributes = attributes,
            .reference = [&](const std::vector<Array>& in) {
              // The index of each element of x, axis by axis, gives its place in y.
              Array y(in[0].size());
              for (int64_t i = 0; i < shape.elements(); ++i) {
                int64_t at = 0;
                for (int axis = 0; axis < shape.rank(); ++axis) {
                  const int from = attributes.order[axis];
                  at = at * shape[from] + i / shape.product(from + 1, shape.rank()) % shape[from];
                }
                y[static_cast<size_t>(at)] = in[0][static_cast<size_t>(i)];
              }
              return std::vector<Array>{y};
            }});
}

}  // namespace

TEST_CASE("permute") {
  check_permute("transpose", {3, 5}, {{1, 0}});
  check_permute("NHWC to NCHW", {2, 3, 5, 4}, {{0, 3, 1, 2}});
  check_permute("backwards", {2, 3, 2, 3, 2, 2}, {{5, 4, 3, 2, 1, 0}});
  check_permute("a cycle", {2, 3, 5}, {{1, 2, 0}});
  check_permute("nothing", {3, 5}, {{0, 1}});
  check_permute("a scalar", {}, {});
  check_permute("images over more than one tile", {2, 5, 7, 19}, {{0, 3, 1, 2}});
  check_permute("tiles amid other axes", {3, 17, 2, 5, 33}, {{4, 2, 0, 3, 1}});
  check_permute("over more than one task", {131, 3, 67}, {{2, 0, 1}});
}

TEST_CASE("permute: values and shape") {
  const Tensor y = permute(Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3}), {1, 0});
  CHECK(y.shape() == Shape{3, 2});
  CHECK(y.to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("permute says what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  const char* message = "[permute] got an order of 2 axes for shape [2, 3], expected each of its axes once";
  CHECK_THROWS_WITH_AS(permute(x, {0, 0}), message, ShapeError);
  CHECK_THROWS_WITH_AS(permute(x, {0, 2}), message, ShapeError);
  CHECK_THROWS_WITH_AS(permute(x, {-1, 0}), message, ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 1, 2}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0}), ShapeError);
}

}  // namespace parabola::permute_test
