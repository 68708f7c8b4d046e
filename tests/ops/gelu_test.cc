#include "engine/ops/gelu.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/harness.h"

namespace parabola::gelu_test {

using namespace test;

namespace {

void check_gelu(const std::string& name, const Shape& shape) {
  check_op({.name = name,
            .op = &gelu_op,
            .inputs = {{.shape = shape, .low = -4, .high = 4}},
            .reference =
                [](const std::vector<Array>& in) {
                  Array y = in[0];
                  for (double& v : y) v = v * (1 + std::erf(v / std::sqrt(2))) / 2;
                  return std::vector<Array>{y};
                },
            .max_differences = 20});
}

}  // namespace

TEST_CASE("gelu") {
  check_gelu("a prime", {3, 5, 7});
  check_gelu("one element", {});
  check_gelu("more than one task", {5, 4001});
}

TEST_CASE("gelu in single precision: every x within 3e-7 |x|, the ends included") {
  std::vector<float> values = {-1e30F, -40, 0, 40, 1e30F};
  for (float x = -12; x <= 12; x += 0.001F) values.push_back(x);
  const Tensor y = gelu(Tensor::from(values, {static_cast<int64_t>(values.size())}));
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = static_cast<double>(values[i]), exact = x / 2 * std::erfc(-x / std::sqrt(2));
    REQUIRE(std::abs(y.at(static_cast<int64_t>(i)) - exact) <= 3e-7 * std::abs(x));
  }
}

}  // namespace parabola::gelu_test
