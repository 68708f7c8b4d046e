#include "engine/ops/quadratic_linear.h"

#include <array>

#include "engine/ops/linear.h"
#include "engine/ops/matmul.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

using namespace parabola;
using namespace parabola::test;

namespace {

// y[i][k] = bias[k] + w[k].x[i] + scale * sum_j (a[j][k].x[i]) (b[j][k].x[i])
std::vector<Array> naive(const std::vector<Array>& in, size_t C, size_t K, size_t J, double scale) {
  const Array &x = in[0], &weight = in[1], &bias = in[2];
  const auto dot = [&](const Array& rows, size_t row, size_t i) {
    double sum = 0;
    for (size_t c = 0; c < C; ++c) sum += rows[row * C + c] * x[i * C + c];
    return sum;
  };
  Array y;
  for (size_t i = 0; i < x.size() / C; ++i)
    for (size_t k = 0; k < K; ++k) {
      double value = (bias.empty() ? 0 : bias[k]) + (weight.empty() ? 0 : dot(weight, k, i));
      for (size_t j = 0; j < J; ++j) value += scale * dot(in[3], j * K + k, i) * dot(in[4], j * K + k, i);
      y.push_back(value);
    }
  return {y};
}

struct Case {
  const char* name;
  Shape x;
  int64_t K, J = 1;
  double scale = 1;
  bool weight = true, bias = true;
  std::array<bool, 5> trained = {true, true, true, true, true};
  int differences = 15;
  double difference_tolerance = 1e-7;
};

void check(const Case& c) {
  const int64_t C = c.x.back();
  check_op({.name = c.name,
            .op = &quadratic_linear_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = {c.K, C}, .gradient = c.trained[1], .absent = !c.weight},
                       {.shape = {c.K}, .gradient = c.trained[2], .absent = !c.bias},
                       {.shape = {c.J, c.K, C}, .gradient = c.trained[3]},
                       {.shape = {c.J, c.K, C}, .gradient = c.trained[4]}},
            .attributes = QuadraticLinearAttributes{c.scale},
            .reference =
                [c, C](const std::vector<Array>& in) {
                  return naive(in, static_cast<size_t>(C), static_cast<size_t>(c.K), static_cast<size_t>(c.J), c.scale);
                },
            // A product of two sums in float: the errors of both.
            .f32_tolerance = 4e-6,
            .difference_tolerance = c.difference_tolerance,
            .max_differences = c.differences});
}

}  // namespace

TEST_CASE("quadratic_linear") {
  check({"rank 1", {5, 6}, 4});
  check({"one of everything", {1, 1}, 1});
  check({"rank 2, scale 1/2", {2, 3, 7}, 5, 2, 0.5});
  check({"rank 4", {7, 11}, 3, 4, 0.25});
  check({"no linear term", {5, 6}, 4, 2, 1, false, false});
  check({"bias alone", {5, 6}, 4, 1, 1, false, true});
  check({"a frozen linear term", {5, 6}, 4, 2, 1, true, true, {true, false, false, true, true}});
  check({"factors alone: an adapter on the first layer",
         {5, 6},
         4,
         2,
         1,
         true,
         false,
         {false, false, false, true, true}});
  check({"a frozen", {5, 6}, 4, 2, 1, true, false, {false, false, false, false, true}});
  check({"b frozen", {5, 6}, 4, 2, 1, true, false, {false, false, false, true, false}});
  check({"all frozen but x", {5, 6}, 4, 2, 1, true, true, {true, false, false, false, false}});
  check({"tiles of rows and columns", {67, 3}, 197, 2, 1, true, true, {true, true, true, true, true}, 4});
  // The loss adds up 279,000 terms: its rounding over the step of 1e-5 is what the differences show.
  check({"several chunks of rows, in backward and on a device",
         {1090, 1},
         256,
         8,
         1,
         true,
         true,
         {true, true, true, true, true},
         1,
         1e-5});
  check({"no rows", {0, 3}, 2, 2});
}

TEST_CASE("quadratic_linear: compares equal to linear where a factor is zero, and only the zero factor learns") {
  const auto random = [](const Shape& shape, uint32_t item) {
    return Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(DType::f32, Category::inputs);
  };
  const auto there = [](const Tensor& t) { return t.to(test_device(), Category::inputs); };
  const auto ones = [](const Shape& shape) {
    return Tensor::full(shape, 1.0, DType::f32, Category::inputs, test_device());
  };
  for (const int64_t K : {10, 200}) {
    const Tensor x = there(random({300, 33}, 1)), weight = there(random({K, 33}, 2)), bias = there(random({K}, 3)),
                 b = there(random({2, K, 33}, 4)), a = there(Tensor::full({2, K, 33}, 0.0));
    const std::vector<float> expected = linear(x, weight, bias).to_vector<float>();
    CHECK(quadratic_linear(x, weight, bias, a, b, 0.5).to_vector<float>() == expected);

    a.set_requires_gradient(true), b.set_requires_gradient(true);
    Tape tape;
    const Tensor y = quadratic_linear(x, weight, bias, a, b, 0.5);
    CHECK(y.to_vector<float>() == expected);
    tape.backward(linear(matmul(ones({1, 300}), y), ones({1, K})));
    bool zero = true, moved = false;
    for (const float d : b.gradient().to_vector<float>()) zero &= d == 0;
    for (const float d : a.gradient().to_vector<float>()) moved |= d != 0;
    CHECK(zero);
    CHECK(moved);
  }
}

TEST_CASE("quadratic_linear: is the quadratic form x W x with W = sum of a_j b_j transposed") {
  const size_t C = 7, J = 3;
  const Array x = random_array(7, -1, 1, 1), a = random_array(21, -1, 1, 2), b = random_array(21, -1, 1, 3);
  double form = 0;
  for (size_t i = 0; i < C; ++i)
    for (size_t k = 0; k < C; ++k) {
      double w = 0;
      for (size_t j = 0; j < J; ++j) w += a[j * C + i] * b[j * C + k];
      form += x[i] * w * x[k];
    }
  const auto there = [](const Array& values, const Shape& shape) {
    return Tensor::from(values, shape).to(test_device(), Category::inputs);
  };
  const Tensor y = quadratic_linear(there(x, {1, 7}), {}, {}, there(a, {3, 1, 7}), there(b, {3, 1, 7}));
  CHECK(y.item() == doctest::Approx(form).epsilon(1e-14));
}

TEST_CASE("quadratic_linear: what does not fit is named") {
  const auto ones = [](Shape shape, DType dtype = DType::f32) { return Tensor::full(shape, 1.0, dtype); };
  const Tensor x = ones({2, 3}), a = ones({2, 4, 3});
  CHECK_THROWS_WITH_AS(
      quadratic_linear(x, {}, {}, ones({4, 3}), a),
      "[quadratic_linear] a: got [4, 3] for an input of shape [2, 3], expected [J, K, 3] with J at least 1",
      ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, a, ones({1, 4, 3})),
                       "[quadratic_linear] b: got [1, 4, 3], expected [2, 4, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, ones({3, 4}), {}, a, a),
                       "[quadratic_linear] weight: got [3, 4], expected [4, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, ones({3}), a, a), "[quadratic_linear] bias: got [3], expected [4]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(ones({}), {}, {}, a, a),
                       "[quadratic_linear] input: got a scalar, expected [..., C]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, a, ones({2, 4, 3}, DType::f64)),
                       "[quadratic_linear] got f32 and f64, expected one dtype", DTypeError);
}
