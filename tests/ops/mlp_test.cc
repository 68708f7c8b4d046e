#include "engine/ops/mlp.h"

#include <cmath>
#include <tuple>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/gelu.h"
#include "engine/ops/linear.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::mlp_test {

using namespace test;

namespace {

// y[i][k] = residual[i][k] + scale[k] (bias2[k] + sum over h of weight2[k][h] gelu(bias1[h] + weight1[h].x[i])).
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
  Array y = affine(hidden, H, in[3], in[4], K);
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = (in[6].empty() ? 0 : in[6][i]) + (in[5].empty() ? 1 : in[5][i % K]) * y[i];
  return {y};
}

struct Case {
  const char* name;
  Shape x;
  int64_t H, K;
  bool biases = true;
  std::vector<bool> trained = std::vector<bool>(7, true);
  int differences = 15;
  bool scale = false, residual = false;
};

void check(const Case& c) {
  const int64_t C = c.x.back();
  check_op({.name = c.name,
            .op = &mlp_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = {c.H, C}, .gradient = c.trained[1]},
                       {.shape = {c.H}, .gradient = c.trained[2], .absent = !c.biases},
                       {.shape = {c.K, c.H}, .gradient = c.trained[3]},
                       {.shape = {c.K}, .gradient = c.trained[4], .absent = !c.biases},
                       {.shape = {c.K}, .gradient = c.trained[5], .absent = !c.scale},
                       {.shape = c.x.with(-1, c.K), .gradient = c.trained[6], .absent = !c.residual}},
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
  check({.name = "tiles of few rows and of columns", .x = {71, 10}, .H = 197, .K = 67, .differences = 3});
  check({.name = "tiles of whole rows, panels of columns", .x = {530, 3}, .H = 67, .K = 66, .differences = 3});
  check({.name = "several chunks of rows on a device", .x = {150, 3}, .H = 70, .K = 2, .differences = 3});
}

TEST_CASE("mlp to the end of its block") {
  for (const Shape& x : {Shape{2, 3, 7}, Shape{530, 5}})
    for (const bool biases : {true, false})
      for (const auto& [name, scale, residual] :
           {std::tuple{"scaled", true, false}, {"residual", false, true}, {"both", true, true}})
        check({.name = name,
               .x = x,
               .H = 13,
               .K = 5,
               .biases = biases,
               .differences = x.rank() == 3 ? 15 : 3,
               .scale = scale,
               .residual = residual});
  check({.name = "no rows", .x = {0, 3}, .H = 4, .K = 2, .scale = true, .residual = true});
}

TEST_CASE("mlp: each gradient alone, and all frozen but x") {
  for (size_t i = 0; i < 7; ++i) {
    std::vector<bool> one(7);
    one[i] = true;
    const std::string name = concat("only input ", i);
    if (i < 5) check({.name = name.c_str(), .x = {9, 6}, .H = 12, .K = 5, .trained = one});
    check({.name = name.c_str(), .x = {9, 6}, .H = 12, .K = 5, .trained = one, .scale = true, .residual = true});
  }
  const std::vector<bool> first = {true, true, true, false, false, false, true};
  check({.name = "the second layer frozen", .x = {9, 6}, .H = 12, .K = 5, .trained = first});
  check({.name = "the second layer and its scale frozen",
         .x = {9, 6},
         .H = 12,
         .K = 5,
         .trained = first,
         .scale = true,
         .residual = true});
}

TEST_CASE("mlp: several chunks of rows in backward") {
  check({.name = "chunks", .x = {4200, 2}, .H = 256, .K = 1, .differences = 1});
  check({.name = "parts of 256, 256 and 88 rows", .x = {600, 2}, .H = 600, .K = 1, .differences = 1});
  check({.name = "one part, a step of 256 rows and one of 1", .x = {257, 2}, .H = 1100, .K = 3, .differences = 1});
  check(
      {.name = "chunks, scaled", .x = {4200, 2}, .H = 256, .K = 1, .differences = 1, .scale = true, .residual = true});
}

TEST_CASE("mlp has the bits of linear, gelu, linear, a product and a sum") {
  if (test_device() != Device{}) SKIP("a device's library cuts products by their sizes");
  const auto tensor = [](const Shape& shape, uint32_t item) {
    return Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(DType::f32, Category::activations);
  };
  const Tensor rows = tensor({2, 300, 24}, 1), few = tensor({7, 24}, 1), weight1 = tensor({96, 24}, 2),
               bias1 = tensor({96}, 3);
  const Tensor weight2 = tensor({40, 96}, 4), bias2 = tensor({40}, 5);
  const Tensor scale = tensor({40}, 6);
  for (const Tensor& x : {rows, few}) {
    const Tensor y = linear(gelu(linear(x, weight1, bias1)), weight2, bias2), residual = tensor(y.shape(), 7);
    CHECK(mlp(x, weight1, bias1, weight2, bias2).to_vector<float>() == y.to_vector<float>());
    CHECK(mlp(x, weight1, bias1, weight2, bias2, scale).to_vector<float>() == (scale * y).to_vector<float>());
    CHECK(mlp(x, weight1, bias1, weight2, bias2, {}, residual).to_vector<float>() == (residual + y).to_vector<float>());
    CHECK(mlp(x, weight1, bias1, weight2, bias2, scale, residual).to_vector<float>() ==
          (residual + scale * y).to_vector<float>());
  }
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
  CHECK_THROWS_WITH_AS(mlp(x, weight1, {}, weight2, {}, tensor({8})), "[mlp] scale: got [8], expected [4]", ShapeError);
  CHECK_THROWS_WITH_AS(mlp(x, weight1, {}, weight2, {}, {}, x), "[mlp] residual: got [2, 3], expected [2, 4]",
                       ShapeError);
}

}  // namespace parabola::mlp_test
