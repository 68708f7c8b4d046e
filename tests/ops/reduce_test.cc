#include "engine/ops/reduce.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"

namespace parabola::reduce_test {

using namespace test;

namespace {

Array sum_reference(const Array& x, const Shape& shape, uint32_t axes) {
  int64_t results = 1, summed = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) (axes >> axis & 1 ? summed : results) *= shape[axis];
  Array y(static_cast<size_t>(results));
  for (int64_t i = 0; i < shape.elements(); ++i) {
    int64_t rest = i, at = 0, stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const int64_t index = rest % shape[axis];
      rest /= shape[axis];
      if (axes >> axis & 1) continue;
      at += index * stride;
      stride *= shape[axis];
    }
    y[static_cast<size_t>(at)] += x[static_cast<size_t>(i)];
  }
  return y;
}

void check_reduce(const std::string& name, const Shape& shape, uint32_t axes, bool keep = false,
                  const std::vector<const OpDef*>& ops = {&sum_op, &mean_op}) {
  int64_t count = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) count *= axes >> axis & 1 ? shape[axis] : 1;
  for (const OpDef* op : ops) {
    check_op({.name = name,
              .op = op,
              .inputs = {{.shape = shape, .low = 0.5, .high = 1.5}},  // no sum near zero, so that errors are relative
              .attributes = ReduceAttributes{axes, keep},
              .reference =
                  [&](const std::vector<Array>& in) {
                    Array y = sum_reference(in[0], shape, axes);
                    if (op == &mean_op) {
                      for (double& v : y) v /= static_cast<double>(count);
                    }
                    return std::vector<Array>{y};
                  },
              // A difference of sums of 3e4: rounding of 3e4 * 1e-16 over a step of 1e-5.
              .difference_tolerance = 1e-6,
              .max_differences = 10});
  }
}

}  // namespace

TEST_CASE("sum and mean over any axes") {
  check_reduce("a scalar", {}, 0);
  check_reduce("no axis", {3, 5}, 0);
  check_reduce("all", {3, 5, 7}, 0b111);
  check_reduce("first", {5, 3}, 0b01);
  check_reduce("last", {5, 37}, 0b10, true);
  check_reduce("the middle", {3, 5, 7, 4}, 0b0110);
  check_reduce("first and last", {3, 5, 7}, 0b101, true);
  check_reduce("every second axis", {2, 3, 2, 3, 2, 3}, 0b010101);
  check_reduce("axes of one element", {1, 4, 1, 3}, 0b0101);
}

TEST_CASE("sum and mean over more than one block and task") {
  check_reduce("all", {5, 1009}, 0b11);
  check_reduce("all, whose mean has gradients too small for f16", {33, 1009}, 0b11, false, {&sum_op});
  check_reduce("rows", {1201, 17}, 0b01);
  check_reduce("columns", {1201, 17}, 0b10);
  check_reduce("every second axis", {131, 2, 65, 3}, 0b0101);
}

TEST_CASE("sum, mean and global_average_pool: shapes and values") {
  std::vector<float> values(12);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Tensor x = Tensor::from(values, {1, 2, 3, 2});
  CHECK(sum(x).item() == 66);
  CHECK(sum(x, {-1}).shape() == Shape{1, 2, 3});
  CHECK(sum(x, {0, 2}, true).shape() == Shape{1, 2, 1, 2});
  CHECK(mean(x, {}, true).shape() == Shape{1, 1, 1, 1});
  CHECK(global_average_pool(x).shape() == Shape{1, 2});
  CHECK(global_average_pool(x).to_vector<float>() == std::vector<float>{5, 6});
}

TEST_CASE("the gradient of sum(x * x), an operand used twice, is 2 x") {
  const Tensor x = Tensor::from(std::vector<float>{1, -2, 3}, {3});
  x.set_requires_gradient(true);
  Tape tape;
  tape.backward(sum(x * x));
  CHECK(x.gradient().to_vector<float>() == std::vector<float>{2, -4, 6});
}

TEST_CASE("a sum in single precision loses nothing that matters") {
  // Equal values round the same way each time: a running sum would be off by 1e-3, blocks of 128 by at most 128 *
  // 2^-24.
  const Tensor x = Tensor::full({1 << 20}, 0.1F);
  CHECK(sum(x).item() == doctest::Approx(static_cast<double>(0.1F) * (1 << 20)).epsilon(128 * 0x1p-24));
}

TEST_CASE("reductions say what does not fit") {
  const Tensor x = Tensor::full({2, 3}, 1);
  CHECK_THROWS_WITH_AS(sum(x, {2}), "[sum] no such axis: got 2 for shape [2, 3], expected -2 to 1", ShapeError);
  CHECK_THROWS_WITH_AS(mean(x, {1, -1}), "[mean] axis -1 is named twice", ShapeError);
  CHECK_THROWS_WITH_AS(global_average_pool(x),
                       "[global_average_pool] got an input of shape [2, 3], expected [N, H, W, C]", ShapeError);
}

}  // namespace parabola::reduce_test
