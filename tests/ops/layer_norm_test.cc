#include "engine/ops/layer_norm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "tests/ops/harness.h"

namespace parabola::layer_norm_test {

using namespace test;

namespace {

std::vector<Array> reference(const std::vector<Array>& in, double eps) {
  const size_t channels = in[1].size();
  Array y;
  for (size_t row = 0; row < in[0].size() / channels; ++row) {
    const double* x = in[0].data() + row * channels;
    double mean = 0, variance = 0;
    for (size_t c = 0; c < channels; ++c) mean += x[c] / static_cast<double>(channels);
    for (size_t c = 0; c < channels; ++c) variance += std::pow(x[c] - mean, 2) / static_cast<double>(channels);
    for (size_t c = 0; c < channels; ++c) y.push_back((x[c] - mean) / std::sqrt(variance + eps) * in[1][c] + in[2][c]);
  }
  return {y};
}

void check_layer_norm(const std::string& name, const Shape& shape, bool x_wanted = true, bool gamma_wanted = true,
                      bool beta_wanted = true) {
  const Shape channels{shape.back()};
  check_op({.name = name,
            .op = &layer_norm_op,
            .inputs = {{.shape = shape, .gradient = x_wanted},
                       {.shape = channels, .low = 0.5, .high = 1.5, .gradient = gamma_wanted},
                       {.shape = channels, .gradient = beta_wanted}},
            .attributes = LayerNormAttributes{1e-3},
            .reference = [](const std::vector<Array>& in) { return reference(in, 1e-3); },
            .max_differences = 20});
}

}  // namespace

TEST_CASE("layer_norm") {
  check_layer_norm("an image batch", {2, 3, 5, 7});
  check_layer_norm("one row", {33});
  check_layer_norm("two channels", {9, 2});
  check_layer_norm("more than one block and task", {1031, 19});
  check_layer_norm("x frozen", {7, 5}, false, true, true);
  check_layer_norm("gamma and beta frozen", {7, 5}, true, false, false);
  check_layer_norm("gamma only", {7, 5}, false, true, false);
  check_layer_norm("beta only", {7, 5}, false, false, true);
}

TEST_CASE("layer_norm in single precision far from zero") {
  // Mean 1e3, deviation 1: the mean itself is rounded to 2^-15 in float, so nothing can be better than that.
  const Array values = random_array(64 * 50, 1000 - std::sqrt(3), 1000 + std::sqrt(3), 0);
  const Tensor x = Tensor::from(values, {50, 64}).to(DType::f32, Category::inputs);
  Array rounded;
  for (int64_t i = 0; i < x.elements(); ++i) rounded.push_back(x.at(i));
  const Array expected = reference({rounded, Array(64, 1), Array(64, 0)}, 1e-6)[0];
  const Tensor y = layer_norm(x, Tensor::full({64}, 1), Tensor::full({64}, 0), 1e-6);
  for (int64_t i = 0; i < y.elements(); ++i) {
    REQUIRE(std::abs(y.at(i) - expected[static_cast<size_t>(i)]) <= 0x1p-14);
  }
}

TEST_CASE("layer_norm says what does not fit") {
  const Tensor x = Tensor::full({4, 3}, 1), c = Tensor::full({3}, 1), wrong = Tensor::full({2}, 1);
  CHECK_THROWS_WITH_AS(layer_norm(x, c, wrong, 1e-6), "[layer_norm] beta: got [2], expected [3]", ShapeError);
  CHECK_THROWS_WITH_AS(layer_norm(x, Tensor::full({3}, 1, DType::f64), c, 1e-6),
                       "[layer_norm] got f32 and f64, expected one dtype", DTypeError);
  CHECK_THROWS_AS(layer_norm(Tensor::full({}, 1), c, c, 1e-6), ShapeError);
}

}  // namespace parabola::layer_norm_test
