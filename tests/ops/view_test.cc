#include "engine/ops/view.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"

namespace parabola::view_test {

using namespace test;

namespace {

void check_view(const std::string& name, const Shape& from, const Shape& to, int64_t offset = 0) {
  check_op({.name = name,
            .op = &view_op,
            .inputs = {{.shape = from}},
            .attributes = ViewAttributes{to, offset},
            .reference = [&](const std::vector<Array>& in) {
              const auto first = in[0].begin() + offset;
              return std::vector<Array>{Array(first, first + to.elements())};
            }});
}

}  // namespace

TEST_CASE("view") {
  check_view("another shape", {3, 4, 5}, {12, 5});
  check_view("a scalar", {1, 1}, {});
  check_view("the beginning", {5, 7}, {2, 7});
  check_view("a range within, over more than one task", {40007}, {5, 4001}, 3);
  check_view("the end", {5, 7}, {7}, 28);
}

TEST_CASE("reshape and view share the bytes of their tensor") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(reshape(x, {3, 2}).data<float>() == x.data<float>());
  CHECK(view(x, {3}, 3).to_vector<float>() == std::vector<float>{4, 5, 6});
  CHECK(view(view(x, {4}, 2), {2}, 1).to_vector<float>() == std::vector<float>{4, 5});
}

TEST_CASE("gradients of overlapping views of an op's output add up") {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3}, {3});
  x.set_requires_gradient(true);
  Tape tape;
  const Tensor y = x + x, both = view(y, {2}) * view(y, {2}, 1);  // 2x0 2x1, 2x1 2x2
  tape.backward(sum(both));
  CHECK(x.gradient().to_vector<float>() == std::vector<float>{8, 16, 8});
}

TEST_CASE("views say what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(reshape(x, {5}), "[reshape] got shape [5] for 6 elements of [2, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(view(x, {4}, 3),
                       "[view] got shape [4] from element 3 on, expected a range inside of the 6 elements of [2, 3]",
                       ShapeError);
  CHECK_THROWS_AS(view(x, {1}, -1), ShapeError);
}

}  // namespace parabola::view_test
