#include "engine/ops/gelu.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "engine/ops/normal_distribution.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
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

TEST_CASE(
    "gelu in single precision: y within 1.1e-7 |x|, two ulp of Phi, and its slope within 2.5e-7, the ends included") {
  std::vector<float> values = {-1e30F, -40, 0, 40, 1e30F};
  for (float x = -12; x <= 12; x += 0.001F) values.push_back(x);
  const Tensor x = Tensor::from(values, {static_cast<int64_t>(values.size())});
  x.set_requires_gradient(true);
  Tape tape;
  const Tensor y = gelu(x);
  tape.backward(sum(y));
  const Tensor dx = x.gradient();
  for (size_t i = 0; i < values.size(); ++i) {
    const double at = static_cast<double>(values[i]), distribution = std::erfc(-at / std::sqrt(2)) / 2;
    const double density = std::exp(-at * at / 2) / std::sqrt(2 * std::numbers::pi);
    REQUIRE(std::abs(y.at(static_cast<int64_t>(i)) - at * distribution) <= 1.1e-7 * std::abs(at));
    REQUIRE(std::abs(dx.at(static_cast<int64_t>(i)) - (distribution + at * density)) <= 2.5e-7);
  }
}

TEST_CASE("gelu value by value in single precision: the same bounds, whichever form the vectors of this machine take") {
  for (double x = -12; x <= 12; x += 0.001) {
    const GeluAt<float> gelu(static_cast<float>(x));
    const double at = static_cast<float>(x), distribution = std::erfc(-at / std::sqrt(2)) / 2;
    const double density = std::exp(-at * at / 2) / std::sqrt(2 * std::numbers::pi);
    REQUIRE(std::abs(static_cast<double>(gelu.value) - at * distribution) <= 1.1e-7 * std::abs(at));
    REQUIRE(std::abs(static_cast<double>(gelu.slope) - (distribution + at * density)) <= 2.5e-7);
  }
}

TEST_CASE("gelu of infinity and of what is no number") {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> y =
      gelu(Tensor::from(std::vector<float>{infinity, -infinity, NAN, -NAN}, {4})).to_vector<float>();
  CHECK(y[0] == infinity);
  CHECK(!(std::abs(y[1]) > 1e-6F));  // 0, or infinity times 0
  CHECK(std::isnan(y[2]));
  CHECK(std::isnan(y[3]));
}

}  // namespace parabola::gelu_test
