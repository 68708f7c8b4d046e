#include "engine/ops/unary.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "engine/core/error.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::unary_test {

using namespace test;

namespace {

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_of(double x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

struct Function {
  const OpDef* op;
  double (*f)(double);
  double low, high, kink;  // the values that it is tried on, and how far from 0
  Attributes attributes = {};
};

const std::vector<Function> functions = {
    {&neg_op, [](double x) { return -x; }, -2, 2, 0},
    {&exp_op, [](double x) { return std::exp(x); }, -2, 2, 0},
    {&log_op, [](double x) { return std::log(x); }, 2, 5, 0},
    {&sqrt_op, [](double x) { return std::sqrt(x); }, 0.25, 4, 0},
    {&square_op, [](double x) { return x * x; }, -2, 2, 0},
    {&abs_op, [](double x) { return std::abs(x); }, -2, 2, 0.01},
    {&clamp_op, [](double x) { return std::min(std::max(x, -0.50123), 1.0456); }, -2, 2, 0,
     ClampAttributes{-0.50123, 1.0456}},
    {&relu6_op, [](double x) { return std::min(std::max(x, 0.0), 6.0); }, -4, 9, 0.01},
    {&sigmoid_op, sigmoid_of, -3, 1, 0},  // in 16 bits 1 - y loses what y was rounded by
    {&tanh_op, [](double x) { return std::tanh(x); }, -2, 2, 0},
    {&silu_op, [](double x) { return x * sigmoid_of(x); }, -4, 4, 0},
    {&gelu_tanh_op, gelu_of, -4, 4, 0},
};

void check_function(const std::string& name, const Function& function, const Shape& shape) {
  check_op({.name = name,
            .op = function.op,
            .inputs = {{.shape = shape, .low = function.low, .high = function.high, .kink = function.kink}},
            .attributes = function.attributes,
            .reference =
                [&](const std::vector<Array>& in) {
                  Array y = in[0];
                  for (double& v : y) v = function.f(v);
                  return std::vector<Array>{y};
                },
            .max_differences = 20});
}

Tensor tensor(const std::vector<float>& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }

// The largest error of f32 in units in the last place of the exact result, from x = low on in steps; results below the
// least normal number count as if they were that.
double worst_ulp(Tensor (*op)(const Tensor&), double (*exact)(double), float low, float high, float step) {
  std::vector<float> x;
  for (float v = low; v <= high; v += step) x.push_back(v);
  const std::vector<float> y = op(tensor(x)).to_vector<float>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = exact(static_cast<double>(x[i]));
    const int exponent = std::max(std::ilogb(expected), -126);
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - expected) / std::ldexp(1.0, exponent - 23));
  }
  return worst;
}

std::vector<float> at(Tensor (*op)(const Tensor&), const std::vector<float>& values) {
  return op(tensor(values)).to_vector<float>();
}

constexpr float inf = INFINITY;

}  // namespace

TEST_CASE("elementwise functions") {
  for (const Function& function : functions) {
    check_function("a prime", function, {3, 5, 7});
    check_function("one element", function, {});
  }
  for (const size_t i : {0UL, 1UL, 11UL}) check_function("more than one task", functions[i], {5, 4001});
}

TEST_CASE("golden: elementwise functions, at their kinks and ends too") {
  for (const Function& function : functions) {
    const std::string name(function.op->name);
    if (name == "neg" || name == "exp" || name == "square") continue;  // nothing there to be got wrong
    for (const DType dtype : {DType::f64, DType::f32}) {
      const GoldenCase golden(name, dtype);
      const Tensor x = golden.leaf("input");
      Tape tape;
      const Attributes attributes = name == "clamp" ? ClampAttributes{-0.75, 1.5} : function.attributes;
      golden.check_gradients(apply(*function.op, {x}, attributes), {{"input", x}});
    }
  }
}

TEST_CASE("exp, log, tanh, sigmoid, silu, gelu_tanh in single precision: as close as unary.h says") {
  const auto exact_exp = [](double x) { return std::exp(x); };
  const auto exact_log = [](double x) { return std::log(x); };
  const auto exact_tanh = [](double x) { return std::tanh(x); };
  const auto exact_silu = [](double x) { return x * sigmoid_of(x); };
  CHECK(worst_ulp(exp, exact_exp, -86.6F, 88.72F, 0.0137F) <= 1);
  CHECK(worst_ulp(exp, exact_exp, -86.9F, -86.6F, 0.000137F) <= 2);
  CHECK(worst_ulp(log, exact_log, 0.001F, 20, 0.00137F) <= 1);
  CHECK(worst_ulp(log, exact_log, 0.999F, 1.001F, 0.0000003F) <= 1);
  CHECK(worst_ulp(log, exact_log, 1e-44F, 1.5e-38F, 1.37e-42F) <= 1);  // subnormal ones among them
  CHECK(worst_ulp(log, exact_log, 1e37F, 3.4e38F, 1.37e35F) <= 1);
  CHECK(worst_ulp(tanh, exact_tanh, -10, 10, 0.00137F) <= 3);
  CHECK(worst_ulp(tanh, exact_tanh, -1e-3F, 1e-3F, 0.0000003F) <= 3);
  CHECK(worst_ulp(sigmoid, sigmoid_of, -86.9F, 20, 0.0137F) <= 3);
  CHECK(worst_ulp(silu, exact_silu, -86.9F, 20, 0.0137F) <= 3);

  std::vector<float> x;
  for (float v = -12; v <= 12; v += 0.00137F) x.push_back(v);
  const std::vector<float> y = at(gelu_tanh, x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x[i]);
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - gelu_of(v)) / std::abs(v));
  }
  CHECK(worst <= 2e-7);
}

TEST_CASE("elementwise functions at their ends") {
  CHECK(at(exp, {0, -inf, -87.1F, 88.73F, inf}) == std::vector<float>{1, 0, 0, inf, inf});
  CHECK(at(log, {1, 0, -0.0F, inf}) == std::vector<float>{0, -inf, -inf, inf});
  CHECK(at(tanh, {0, -inf, -9.5F, 1e-30F, inf}) == std::vector<float>{0, -1, -1, 1e-30F, 1});
  CHECK(at(sigmoid, {0, -inf, 100, inf}) == std::vector<float>{0.5F, 0, 1, 1});
  CHECK(at(silu, {-1e30F, 100, inf}) == std::vector<float>{0, 100, inf});
  CHECK(at(gelu_tanh, {-1e30F, 0, 1e30F, inf}) == std::vector<float>{0, 0, 1e30F, inf});
  CHECK(at(relu6, {-inf, 7, inf}) == std::vector<float>{0, 6, 6});
  CHECK(std::signbit(at(tanh, {-0.0F})[0]));
  for (const float v : at(log, {-1, -inf, -1e-44F, NAN})) CHECK(std::isnan(v));
  for (Tensor (*op)(const Tensor&) : {neg, exp, sqrt, square, parabola::abs, relu6, sigmoid, tanh, silu, gelu_tanh})
    CHECK(std::isnan(at(op, {NAN})[0]));
  CHECK(std::isnan(clamp(tensor({NAN}), 0, 1).item()));
  CHECK(clamp(tensor({-3, 3}), -inf, 2).to_vector<float>() == std::vector<float>{-3, 2});
  CHECK((-tensor({1, -2})).to_vector<float>() == std::vector<float>{-1, 2});

  for (Tensor (*op)(const Tensor&) : {silu, gelu_tanh}) {
    const Tensor x = tensor({-1e30F, -200, 50, 1e30F});
    x.set_requires_gradient(true);
    Tape tape;
    tape.backward(sum(op(x)));
    CHECK(x.gradient().to_vector<float>() == std::vector<float>{0, 0, 1, 1});
  }
}

TEST_CASE("clamp says what is wrong with its bounds") {
  CHECK_THROWS_WITH_AS(clamp(tensor({1}), 2, 1), "[clamp] got bounds 2 and 1, expected low <= high", UsageError);
  CHECK_THROWS_AS(clamp(tensor({1}), NAN, 1), UsageError);
}

}  // namespace parabola::unary_test
