#include "engine/ops/quadratic_linear.h"

#include <array>
#include <functional>

#include "engine/core/error.h"
#include "engine/ops/linear.h"
#include "engine/ops/matmul.h"
#include "engine/ops/reduce.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::quadratic_linear_test {

using namespace test;

namespace {

struct Case {
  const char* name;
  Shape x;
  int64_t K, J = 1;
  double scale = 1;
  bool weight = true, bias = true;
  std::array<bool, 6> trained = {true, true, true, true, true, true};
  int differences = 15;
  double difference_tolerance = 1e-7;
  std::string_view term = "ab";  // what the second-order term has: a, b, and s for square
  bool has(char part) const { return term.find(part) != std::string_view::npos; }
};

// y[i][k] = bias[k] + w[k].x[i] + scale * (sum_j (a[j][k].x[i]) (b[j][k].x[i]) + square[k].(x[i] squared)), where an
// absent a[j][k].x[i] is x[i][j] and an absent b is a.
std::vector<Array> naive(const Case& c, const std::vector<Array>& in) {
  const size_t C = static_cast<size_t>(c.x.back()), K = static_cast<size_t>(c.K), J = static_cast<size_t>(c.J);
  const Array &x = in[0], &weight = in[1], &bias = in[2];
  const auto dot = [&](const Array& rows, size_t row, size_t i, bool squared = false) {
    double sum = 0;
    for (size_t n = 0; n < C; ++n) sum += rows[row * C + n] * x[i * C + n] * (squared ? x[i * C + n] : 1);
    return sum;
  };
  Array y;
  for (size_t i = 0; i < x.size() / C; ++i)
    for (size_t k = 0; k < K; ++k) {
      double value = (bias.empty() ? 0 : bias[k]) + (weight.empty() ? 0 : dot(weight, k, i));
      for (size_t j = 0; j < J && (c.has('a') || c.has('b')); ++j) {
        const double a = c.has('a') ? dot(in[3], j * K + k, i) : x[i * C + j];
        value += c.scale * a * (c.has('b') ? dot(in[4], j * K + k, i) : a);
      }
      if (c.has('s')) value += c.scale * dot(in[5], k, i, true);
      y.push_back(value);
    }
  return {y};
}

void check(const Case& c) {
  const int64_t C = c.x.back();
  check_op({.name = c.name,
            .op = &quadratic_linear_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = {c.K, C}, .gradient = c.trained[1], .absent = !c.weight},
                       {.shape = {c.K}, .gradient = c.trained[2], .absent = !c.bias},
                       {.shape = {c.J, c.K, C}, .gradient = c.trained[3], .absent = !c.has('a')},
                       {.shape = {c.J, c.K, C}, .gradient = c.trained[4], .absent = !c.has('b')},
                       {.shape = {c.K, C}, .gradient = c.trained[5], .absent = !c.has('s')}},
            .attributes = QuadraticLinearAttributes{c.scale},
            .reference = [c](const std::vector<Array>& in) { return naive(c, in); },
            // A product of two sums in float: the errors of both.
            .f32_tolerance = 4e-6,
            .difference_tolerance = c.difference_tolerance,
            .max_differences = c.differences});
}

// A type of the family (engine/ops/quadratic_types.h): alone, among all else, and with everything but one part frozen.
void check_type(std::string_view term, int64_t C, int64_t J) {
  const auto with = [&](const char* name, Shape x, int64_t K, bool linear, std::array<bool, 6> trained) {
    Case c{name, x, K, J, linear ? 0.5 : 1.0, linear, linear, trained};
    c.term = term;
    check(c);
  };
  const std::array<bool, 6> all = {1, 1, 1, 1, 1, 1};
  const std::string name = concat("term ", term, ": ");
  const auto named = [&](const char* what) { return name + what; };
  with(named("alone").c_str(), {5, C}, 4, false, all);
  with(named("beside a linear term, scale 1/2").c_str(), {2, 3, C}, 3, true, all);
  with(named("tiles of rows and columns").c_str(), {67, C}, 197, true, all);
  with(named("no rows").c_str(), {0, C}, 2, true, all);
  for (size_t i = 0; i < 6; ++i) {
    if (i >= 3 && term.find("abs"[i - 3]) == std::string_view::npos) continue;
    std::array<bool, 6> one = {};
    one[i] = true;
    with(named(concat("only input ", i, " trained").c_str()).c_str(), {5, C}, 4, true, one);
  }
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
  check({"few rows, long ones", {13, 300}, 70, 2, 0.5, true, true, {true, true, true, true, true}, 4});
  check({"few rows, a bias alone", {13, 5}, 70, 2, 0.5, false, true, {true, true, true, true, true}, 4});
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

TEST_CASE("quadratic_linear: type 1") { check_type("b", 6, 6); }
TEST_CASE("quadratic_linear: type 2") { check_type("s", 6, 1); }
TEST_CASE("quadratic_linear: type 3") { check_type("a", 6, 2); }
TEST_CASE("quadratic_linear: type 4, and a linear term beside it") { check_type("ab", 6, 2); }
TEST_CASE("quadratic_linear: type 1&2") { check_type("bs", 5, 5); }
TEST_CASE("quadratic_linear: type 2&4") { check_type("abs", 6, 1); }
TEST_CASE("quadratic_linear: a square beside type 3") { check_type("as", 6, 1); }

TEST_CASE("quadratic_linear: types in several chunks of rows") {
  for (const std::string_view term : {"b", "abs"}) {
    Case c{"chunks", {560, 2}, 1024, 2};
    c.term = term, c.differences = 1, c.difference_tolerance = 1e-5;  // its loss is as long a sum as the one above
    check(c);
  }
}

TEST_CASE("quadratic_linear: type 3 is type 4 of one factor, and 2&4 may share b") {
  const auto leaf = [](const Shape& shape, uint32_t item) {
    Tensor t = Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(test_device(), Category::inputs);
    t.set_requires_gradient(true);
    return t;
  };
  const auto gradients = [](const std::function<Tensor()>& forward, const std::vector<Tensor>& leaves) {
    Tape tape;
    tape.backward(sum(forward()));
    std::vector<Array> values;
    for (const Tensor& t : leaves) values.push_back(t.gradient().to_vector<double>()), t.zero_gradient();
    return values;
  };
  const Tensor x = leaf({5, 7}, 1), a = leaf({1, 4, 7}, 2), b = leaf({1, 4, 7}, 3);
  const auto squared = gradients([&] { return quadratic_linear(x, {}, {}, {.a = a}); }, {x, a});
  const auto product = gradients([&] { return quadratic_linear(x, {}, {}, a, a); }, {x, a});
  for (size_t i = 0; i < 2; ++i) CHECK(relative_error(squared[i], product[i]) < 1e-14);

  const auto shared = gradients([&] { return quadratic_linear(x, {}, {}, {a, b, reshape(b, {4, 7})}); }, {x, a, b});
  const Tensor same = Tensor::from(b.to_vector<double>(), {4, 7}).to(test_device(), Category::inputs);
  const auto fixed = gradients([&] { return quadratic_linear(x, {}, {}, {a, b, same}); }, {x, a, b});
  const auto square = gradients([&] { return quadratic_linear(x, {}, {}, {.square = reshape(b, {4, 7})}); }, {b});
  Array both = fixed[2];
  for (size_t i = 0; i < both.size(); ++i) both[i] += square[0][i];
  CHECK(relative_error(shared[0], fixed[0]) < 1e-14);
  CHECK(relative_error(shared[2], both) < 1e-14);
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

TEST_CASE("quadratic_linear: compares equal to linear where a square, or a form, is zero") {
  const auto random = [](const Shape& shape, uint32_t item) {
    return Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(DType::f32, Category::inputs);
  };
  const auto there = [](const Tensor& t) { return t.to(test_device(), Category::inputs); };
  const Tensor x = there(random({300, 33}, 1)), weight = there(random({200, 33}, 2)), bias = there(random({200}, 3));
  const Tensor form = there(Tensor::full({33, 200, 33}, 0.0)), square = there(Tensor::full({200, 33}, 0.0));
  CHECK(quadratic_linear(x, weight, bias, {.b = form, .square = square}).to_vector<float>() ==
        linear(x, weight, bias).to_vector<float>());
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
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, {}),
                       "[quadratic_linear] term: got neither a, b nor square, expected at least one", UsageError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, {.b = a}),
                       "[quadratic_linear] b: got [2, 4, 3] for an input of shape [2, 3], expected [3, K, 3], as a is "
                       "absent",
                       ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, {.a = a, .square = ones({3, 3})}),
                       "[quadratic_linear] square: got [3, 3], expected [4, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_linear(x, {}, {}, {.square = ones({3})}),
                       "[quadratic_linear] square: got [3], expected [K, 3]", ShapeError);
}

}  // namespace parabola::quadratic_linear_test
