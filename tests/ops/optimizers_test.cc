#include "engine/ops/optimizers.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/tape/executor.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::optimizers_test {

using namespace test;

namespace {

// Tensors of sizes that are no multiple of anything, one of them more than a task, and more tensors than a mask has
// bits.
std::vector<Tensor> tensors(DType dtype, uint32_t seed, double low = -1, double high = 1) {
  std::vector<Tensor> result;
  for (int i = 0; i < 100; ++i) {
    const int64_t elements = i == 7 ? 20011 : 1 + i * 3 % 29;
    const Array values = random_array(elements, low, high, seed * 1000 + static_cast<uint32_t>(i));
    result.push_back(
        Tensor::from(values, {elements}).to(dtype, Category::parameters).to(test_device(), Category::parameters));
  }
  return result;
}

Tensor full(const Shape& shape, double value) {
  return Tensor::full(shape, value, DType::f32, Category::parameters, test_device());
}

std::vector<Tensor> zeros_like(const std::vector<Tensor>& like) {
  std::vector<Tensor> result;
  result.reserve(like.size());
  for (const Tensor& t : like) result.push_back(Tensor::full(t.shape(), 0, t.dtype(), Category::optimizer, t.device()));
  return result;
}

Array values_of(const std::vector<Tensor>& list) {
  Array values;
  for (const Tensor& t : list) {
    const Tensor here = t.on_cpu();
    for (int64_t i = 0; i < here.elements(); ++i) values.push_back(here.at(i));
  }
  return values;
}

double norm_of(const Array& values) {
  double squares = 0;
  for (double v : values) squares += v * v;
  return std::sqrt(squares);
}

// The formulas, element by element, in double.
struct Reference {
  Array p, m, v;
  double scale = 1, rate = 0;

  void sgd(const Array& g, const SgdAttributes& a) {
    for (size_t i = 0; i < p.size(); ++i) {
      m[i] = a.momentum * m[i] + scale * g[i] + a.weight_decay * p[i];
      p[i] -= rate * (a.nesterov ? scale * g[i] + a.weight_decay * p[i] + a.momentum * m[i] : m[i]);
    }
  }
  void adamw(const Array& g, const AdamwAttributes& a, int t) {
    for (size_t i = 0; i < p.size(); ++i) {
      m[i] = a.beta1 * m[i] + (1 - a.beta1) * scale * g[i];
      v[i] = a.beta2 * v[i] + (1 - a.beta2) * std::pow(scale * g[i], 2);
      const double m_hat = m[i] / (1 - std::pow(a.beta1, t)), v_hat = v[i] / (1 - std::pow(a.beta2, t));
      p[i] -= rate * a.weight_decay * p[i] + rate * m_hat / (std::sqrt(v_hat) + a.eps);
    }
  }
};

struct Result {
  std::vector<Tensor> p, m, v;
};

// Three updates with gradients of their own, by the ops and by the formulas, with and without clipping.
template <class Attributes>
Result check_updates(DType dtype, const Attributes& attributes) {
  const bool clipped = attributes.max_norm > 0;
  Result r{tensors(dtype, 0), {}, {}};
  r.m = r.v = zeros_like(r.p);
  r.v = zeros_like(r.p);
  Reference reference{values_of(r.p), values_of(r.m), values_of(r.v)};
  StepRecord& step = Executor::instance().step;
  step.learning_rate = reference.rate = 0.125;
  for (int t = 1; t <= 3; ++t) {
    step.update = t;
    const std::vector<Tensor> gradients = tensors(dtype, static_cast<uint32_t>(t));
    const Tensor norm = clipped ? gradient_norm(gradients) : Tensor();
    const double expected_norm = norm_of(values_of(gradients));
    if (clipped) {
      CHECK(norm.item() == doctest::Approx(expected_norm).epsilon(dtype == DType::f64 ? 1e-12 : 1e-7));
      reference.scale = std::min(1.0, attributes.max_norm / (expected_norm + 1e-6));
    }
    if constexpr (std::is_same_v<Attributes, SgdAttributes>) {
      reference.sgd(values_of(gradients), attributes);
      sgd(r.p, gradients, r.m, attributes, norm);
    } else {
      reference.adamw(values_of(gradients), attributes, t);
      adamw(r.p, gradients, r.m, r.v, attributes, norm);
    }
  }
  const double tolerance = dtype == DType::f64 ? 1e-14 : 1e-6;  // a few roundings in each of three updates
  CHECK(relative_error(values_of(r.p), reference.p) <= tolerance);
  return r;
}

template <class Attributes>
void check_everywhere(const Attributes& attributes) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    set_threads(1);
    const Result single = check_updates(dtype, attributes);
    set_threads(3);
    const Result threaded = check_updates(dtype, attributes);
    set_threads(1);
    CHECK(values_of(single.p) == values_of(threaded.p));
    CHECK(values_of(single.m) == values_of(threaded.m));
    CHECK(values_of(single.v) == values_of(threaded.v));
  }
}

}  // namespace

TEST_CASE("gradient_norm") {
  check_op({.name = "several tensors, one of more than a task",
            .op = &gradient_norm_op,
            .inputs = {{.shape = {3, 5}}, {.shape = {}}, {.shape = {40009}}},
            .reference = [](const std::vector<Array>& in) {
              double squares = 0;
              for (const Array& values : in) squares += std::pow(norm_of(values), 2);
              return std::vector<Array>{{std::sqrt(squares)}};
            }});
  const Tensor three = full({}, 3), four = full({}, 4);
  CHECK(gradient_norm(std::vector<Tensor>{three, Tensor(), four}).item() == 5);
  CHECK(gradient_norm(std::vector<Tensor>{full({2}, 1e30)}).item() == doctest::Approx(std::sqrt(2) * 1e30));
  CHECK(gradient_norm(std::vector<Tensor>(400, three)).item() == 60);
  CHECK_THROWS_WITH_AS(gradient_norm(std::vector<Tensor>{Tensor()}),
                       "[gradient_norm] got no gradients, expected at least one", UsageError);
}

TEST_CASE("sgd") {
  count_as_checked(sgd_op);
  check_everywhere(SgdAttributes{});
  check_everywhere(SgdAttributes{.momentum = 0.9});
  check_everywhere(SgdAttributes{.momentum = 0.9, .weight_decay = 0.1, .max_norm = 2});
  check_everywhere(SgdAttributes{.weight_decay = 0.1, .max_norm = 1e6});
  check_everywhere(SgdAttributes{.momentum = 0.9, .weight_decay = 0.1, .max_norm = 2, .nesterov = true});
}

TEST_CASE("adamw") {
  count_as_checked(adamw_op);
  check_everywhere(AdamwAttributes{});
  check_everywhere(AdamwAttributes{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.1, .max_norm = 2});
}

TEST_CASE("ema") {
  count_as_checked(ema_op);
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<Array> results;
    for (const int threads : {1, 3}) {
      set_threads(threads);
      const std::vector<Tensor> averages = tensors(dtype, 0), values = tensors(dtype, 1);
      Array expected = values_of(averages);
      const Array targets = values_of(values);
      for (const int t : {1, 2, 5000}) {
        Executor::instance().step.update = t;
        ema(averages, values, {.decay = 0.99});
        const double decay = std::min(0.99, (1.0 + t) / (10 + t));
        for (size_t i = 0; i < expected.size(); ++i) expected[i] = decay * expected[i] + (1 - decay) * targets[i];
      }
      results.push_back(values_of(averages));
      CHECK(relative_error(results.back(), expected) <= (dtype == DType::f64 ? 1e-14 : 1e-6));
      CHECK(values_of(values) == targets);
      ema(values, values, {.decay = 0.99});
      CHECK(values_of(values) == targets);  // what equals its value stays
    }
    set_threads(1);
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("optimizers leave parameters without a gradient alone and count mutations") {
  const std::vector<Tensor> p = {full({2}, 1), full({3}, 1)};
  const std::vector<Tensor> gradients = {Tensor(), full({3}, 2)}, m = zeros_like(p);
  Executor::instance().step.learning_rate = 0.5;
  const auto version = [](const Tensor& t) { return t.storage()->version; };
  const uint64_t frozen = version(p[0]), before = version(p[1]), state = version(m[1]), read = version(gradients[1]);
  sgd(p, gradients, m, {.momentum = 0.5, .weight_decay = 1});
  CHECK(p[0].to_vector<float>() == std::vector<float>{1, 1});
  CHECK(version(p[0]) == frozen);
  CHECK(p[1].to_vector<float>() == std::vector<float>(3, -0.5));
  CHECK(version(p[1]) == before + 1);
  CHECK(version(m[1]) == state + 1);
  CHECK(version(gradients[1]) == read);
  sgd(p, std::vector<Tensor>{Tensor(), Tensor()}, m, {.momentum = 0.5});
  CHECK(version(p[1]) == before + 1);
}

TEST_CASE("optimizers say what does not fit") {
  const std::vector<Tensor> p = {Tensor::full({2}, 1)}, other = {Tensor::full({3}, 1)},
                            wide = {Tensor::full({2}, 1, DType::f64)};
  CHECK_THROWS_WITH_AS(sgd(p, other, p, {.momentum = 0.5}),
                       "[sgd] got a gradient or state of shape [3] for a parameter of shape [2], expected the same",
                       ShapeError);
  CHECK_THROWS_WITH_AS(sgd(p, p, {}, {.momentum = 0.5}), "[sgd] got 0 and 1 tensors, expected as many of each kind",
                       ShapeError);
  CHECK_THROWS_WITH_AS(adamw(p, p, p, wide, {}), "[adamw] dtypes differ: got f32 and f64", DTypeError);
  CHECK_THROWS_WITH_AS(sgd(p, p, {}, {}, other[0]), "[sgd] got a norm of shape [3], expected one element", ShapeError);
  Executor::instance().step.update = 0;
  CHECK_THROWS_WITH_AS(adamw(p, p, p, p, {}), "[adamw] got update 0 in the step record, expected to count from 1",
                       UsageError);
}

}  // namespace parabola::optimizers_test
