#include "engine/ops/mlp.h"

#include <array>
#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/gelu.h"
#include "engine/ops/linear.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::mlp_test {

using namespace test;

namespace {

// y[i][k] = bias2[k] + sum over h of weight2[k][h] gelu(bias1[h] + weight1[h].x[i]).
std::vector<Array> naive(size_t C, size_t H, size_t K, const std::vector<Array>& in) {
  const auto affine = [](const Array& x, size_t inputs, const Array& weight, const Array& bias, size_t outputs) {
    Array y;
    for (size_t i = 0; i < x.size() / inputs; ++i)
      for (size_t k = 0; k < outputs; ++k) {
        double sum = bias.empty() ? 0 : bias[k];
        for (size_t c = 0; c < inputs; ++c) sum += weight[k * inputs + c] * x[i * inputs + c];
        y.push_back(sum);
      }
    return y;
  };
  Array hidden = affine(in[0], C, in[1], in[2], H);
  for (double& v : hidden) v = v * (1 + std::erf(v / std::sqrt(2))) / 2;
  return {affine(hidden, H, in[3], in[4], K)};
}

struct Case {
  const char* name;
  Shape x;
  int64_t H, K;
  bool biases = true;
  std::array<bool, 5> trained = {true, true, true, true, true};
  int differences = 15;
};

void check(const Case& c) {
  const int64_t C = c.x.back();
  check_op({.name = c.name,
            .op = &mlp_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = {c.H, C}, .gradient = c.trained[1]},
                       {.shape = {c.H}, .gradient = c.trained[2], .absent = !c.biases},
                       {.shape = {c.K, c.H}, .gradient = c.trained[3]},
                       {.shape = {c.K}, .gradient = c.trained[4], .absent = !c.biases}},
            .reference =
                [c, C](const std::vector<Array>& in) {
                  return naive(static_cast<size_t>(C), static_cast<size_t>(c.H), static_cast<size_t>(c.K), in);
                },
            .f32_tolerance = 4e-6,  // the hidden values' errors and the sums'
            .max_differences = c.differences});
}

}  // namespace

TEST_CASE("mlp") {
  check({"primes", {2, 3, 7}, 13, 5});
  check({"one of everything", {1, 1}, 1, 1});
  check({"a vector, no biases", {5}, 11, 3, false});
  check({"no rows", {0, 3}, 4, 2});
  check({"tiles of few rows and of columns", {71, 10}, 197, 67, true, {true, true, true, true, true}, 3});
  check({"tiles of whole rows, panels of columns", {530, 3}, 67, 66, true, {true, true, true, true, true}, 3});
  check({"several chunks of rows on a device", {150, 3}, 70, 2, true, {true, true, true, true, true}, 3});
}

TEST_CASE("mlp: each gradient alone, and all frozen but x") {
  for (size_t i = 0; i < 5; ++i) {
    std::array<bool, 5> one = {};
    one[i] = true;
    const std::string name = concat("only input ", i);
    check({name.c_str(), {9, 6}, 12, 5, true, one});
  }
  check({"the second layer frozen", {9, 6}, 12, 5, true, {true, true, true, false, false}});
}

TEST_CASE("mlp: several chunks of rows in backward") {
  check({"chunks", {4200, 2}, 256, 1, true, {true, true, true, true, true}, 1});
}

TEST_CASE("mlp has the bits of linear, gelu and linear") {
  if (test_device() != Device{}) SKIP("a device's library cuts products by their sizes");
  const auto tensor = [](const Shape& shape, uint32_t item) {
    return Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(DType::f32, Category::activations);
  };
  const Tensor rows = tensor({2, 300, 24}, 1), few = tensor({7, 24}, 1), weight1 = tensor({96, 24}, 2),
               bias1 = tensor({96}, 3);
  const Tensor weight2 = tensor({40, 96}, 4), bias2 = tensor({40}, 5);
  for (const Tensor& x : {rows, few})
    CHECK(mlp(x, weight1, bias1, weight2, bias2).to_vector<float>() ==
          linear(gelu(linear(x, weight1, bias1)), weight2, bias2).to_vector<float>());
}

TEST_CASE("mlp: wrong shapes are named") {
  const auto tensor = [](const Shape& shape) { return Tensor::full(shape, 1.0, DType::f32); };
  const Tensor x = tensor({2, 3}), weight1 = tensor({8, 3}), weight2 = tensor({4, 8});
  CHECK_THROWS_WITH_AS(mlp(tensor({}), weight1, {}, weight2), "[mlp] input: got a scalar, expected [..., C]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(mlp(x, tensor({8, 4}), {}, weight2),
                       "[mlp] weight1: got [8, 4] for an input of shape [2, 3], expected [H, 3] with H at least 1",
                       ShapeError);
  CHECK_THROWS_WITH_AS(mlp(x, weight1, {}, tensor({4, 7})),
                       "[mlp] weight2: got [4, 7] for 8 hidden values, expected [K, 8]", ShapeError);
  CHECK_THROWS_WITH_AS(mlp(x, weight1, tensor({4}), weight2), "[mlp] bias1: got [4], expected [8]", ShapeError);
  CHECK_THROWS_WITH_AS(mlp(x, weight1, {}, weight2, tensor({8})), "[mlp] bias2: got [8], expected [4]", ShapeError);
}

}  // namespace parabola::mlp_test
