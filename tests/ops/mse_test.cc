#include "engine/ops/mse.h"

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::mse_test {

using namespace test;

namespace {

void check_mse(const std::string& name, const Shape& shape, bool frozen_target = false) {
  check_op({.name = name,
            .op = &mse_op,
            .inputs = {{.shape = shape}, {.shape = shape, .low = 1, .high = 2, .gradient = !frozen_target}},
            .reference =
                [](const std::vector<Array>& in) {
                  double sum = 0;
                  for (size_t i = 0; i < in[0].size(); ++i) sum += (in[0][i] - in[1][i]) * (in[0][i] - in[1][i]);
                  return std::vector<Array>{{sum / static_cast<double>(in[0].size())}};
                },
            .max_differences = 20});
}

}  // namespace

TEST_CASE("mse") {
  check_mse("a batch", {5, 7});
  check_mse("scalars", {});
  check_mse("the target frozen", {3, 2, 11}, true);
  check_mse("more than one task", {5, 4001});
}

TEST_CASE("golden: mse") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("mse", dtype);
    const Tensor x = golden.leaf("input"), target = golden.leaf("target");
    Tape tape;
    golden.check_gradients(mse(x, target), {{"input", x}, {"target", target}});
  }
}

TEST_CASE("mse says what does not fit") {
  const Tensor a = Tensor::full({2, 3}, 1), empty = Tensor::full({0, 3}, 1);
  CHECK_THROWS_WITH_AS(mse(a, Tensor::full({3}, 1)), "[mse] got [2, 3] and [3], expected one shape, with elements",
                       ShapeError);
  CHECK_THROWS_WITH_AS(mse(empty, empty), "[mse] got [0, 3] and [0, 3], expected one shape, with elements", ShapeError);
  CHECK_THROWS_WITH_AS(mse(a, Tensor::full({2, 3}, 1, DType::f64)), "[mse] got f32 and f64, expected one dtype",
                       DTypeError);
}

}  // namespace parabola::mse_test
