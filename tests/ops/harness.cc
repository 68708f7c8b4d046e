#include "tests/ops/harness.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "tests/ops/run_case.h"
#include "tests/support/test.h"

namespace parabola::test {
namespace {

std::vector<std::string>& checked() {
  static std::vector<std::string> names;
  return names;
}

struct WorstDifference {
  double error = 0;
  std::string where;
};

// ||numeric - analytic|| / ||analytic|| over the probed elements of each input; the worst input and its worst element.
WorstDifference compare_differences(const OpCase& c, const std::vector<Array>& arrays, const Run& analytic) {
  WorstDifference worst;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    if (analytic.gradients[i].empty()) continue;
    Array numeric, exact;
    double worst_gap = -1;
    size_t worst_index = 0;
    const size_t count = arrays[i].size(), stride = std::max<size_t>(1, count / static_cast<size_t>(c.max_differences));
    for (size_t k = 0; k < count; k += stride) {
      std::vector<Array> moved = arrays;
      // The step follows the value's size, and its rounded width is what is divided by.
      const double step = 1e-5 * std::max(1.0, std::abs(arrays[i][k]));
      const RunOptions forward_only{.gradients = false};
      moved[i][k] = arrays[i][k] + step;
      const double up = moved[i][k], high = run_case(c, moved, forward_only).loss;
      moved[i][k] = arrays[i][k] - step;
      const double down = moved[i][k], low = run_case(c, moved, forward_only).loss;
      numeric.push_back((high - low) / (up - down));
      exact.push_back(analytic.gradients[i][k]);
      if (std::abs(numeric.back() - exact.back()) > worst_gap)
        worst_gap = std::abs(numeric.back() - exact.back()), worst_index = k;
    }
    // A gradient that is zero throughout (the zero start of an adapter) is compared absolutely.
    double norm = 0, gap = 0;
    for (size_t k = 0; k < numeric.size(); ++k) norm += exact[k] * exact[k], gap += std::pow(numeric[k] - exact[k], 2);
    const double error = std::sqrt(gap) / std::max(std::sqrt(norm), 1e-3);
    if (error > worst.error || !std::isfinite(error))
      worst = {error, concat("input ", i, " at flat index ", worst_index)};
  }
  return worst;
}

}  // namespace

const std::vector<std::string>& checked_ops() { return checked(); }
void count_as_checked(const OpDef& op) { checked().emplace_back(op.name); }

Array random_array(int64_t elements, double low, double high, uint32_t item, double kink) {
  Random random({.seed = 11, .stream = Stream::test, .step = 0, .item = item});
  Array values(static_cast<size_t>(elements));
  for (double& value : values) {
    value = static_cast<double>(random.uniform(static_cast<float>(low), static_cast<float>(high)));
    if (kink > 0 && std::abs(value) < kink) value += value < 0 ? -kink : kink;
  }
  return values;
}

Tensor random_tensor(const Shape& shape, uint32_t item, double low, double high) {
  return Tensor::from(random_array(shape.elements(), low, high, item), shape)
      .to(DType::f32, Category::inputs)
      .to(test_device(), Category::inputs);
}

double relative_error(const Array& actual, const Array& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double gap = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    gap += std::pow(actual[i] - expected[i], 2), norm += expected[i] * expected[i];
  if (!std::isfinite(gap)) return INFINITY;
  return gap == 0 ? 0 : std::sqrt(gap) / std::max(std::sqrt(norm), 1e-30);
}

double worst_gradient_error(const OpCase& c) {
  const std::vector<Array> arrays = make_inputs(c);
  const Run once = run_case(c, arrays, {}), twice = run_case(c, arrays, {.backwards = 2});
  double worst = compare_differences(c, arrays, once).error;
  for (size_t i = 0; i < once.gradients.size(); ++i) {
    Array doubled = once.gradients[i];
    for (double& value : doubled) value *= 2;
    worst = std::max(worst, relative_error(twice.gradients[i], doubled));
  }
  return worst;
}

void check_op(const OpCase& c) {
  INFO("op ", std::string(c.op->name), ", case ", c.name);
  checked().push_back(std::string(c.op->name));
  if (const Device device = test_device(); device != Device{}) return check_op_on(device, c);
  const std::vector<Array> arrays = make_inputs(c);
  const bool differentiable = wants_any_gradient(c) && c.op->cpu.backward;
  const std::vector<Array> expected = c.reference(arrays);

  const Run base = run_case(c, arrays, {.gradients = differentiable});
  const Run single = run_case(c, arrays, {.dtype = DType::f32, .gradients = differentiable});
  REQUIRE(base.outputs.size() == expected.size());
  for (size_t k = 0; k < expected.size(); ++k) {
    CHECK(relative_error(base.outputs[k], expected[k]) <= c.f64_tolerance);
    CHECK(relative_error(single.outputs[k], expected[k]) <= c.f32_tolerance);
  }
  if (!differentiable) return;

  const WorstDifference worst = compare_differences(c, arrays, base);
  INFO("worst central difference: ", worst.where);
  CHECK(worst.error <= c.difference_tolerance);
  // Gradients of single and double precision: sums of products, so a little looser than the forward pass.
  for (size_t i = 0; i < base.gradients.size(); ++i)
    if (Array zero(base.gradients[i].size()); base.gradients[i] != zero)
      CHECK(relative_error(single.gradients[i], base.gradients[i]) <= 10 * c.f32_tolerance);

  for (const DType dtype : {DType::f64, DType::f32}) {
    const Run& reference = dtype == DType::f64 ? base : single;
    const Run twice = run_case(c, arrays, {.dtype = dtype, .backwards = 2});
    for (size_t i = 0; i < reference.gradients.size(); ++i) {
      Array doubled = reference.gradients[i];
      for (double& value : doubled) value *= 2;
      INFO("accumulation into the gradient of input ", i);
      CHECK(relative_error(twice.gradients[i], doubled) <= (dtype == DType::f64 ? 1e-14 : 1e-6));
    }
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::blocks}) {
      INFO("policy ", std::string(name_of(checkpoint)), ": every bit as by default");
      const Run other = run_case(c, arrays, {.dtype = dtype, .checkpoint = checkpoint});
      CHECK(other.outputs == reference.outputs);
      CHECK(other.gradients == reference.gradients);
    }
    if (!c.op->random) {  // what is drawn depends on how many nodes came before
      const Run inside = run_case(c, arrays, {.dtype = dtype, .activations = true});
      INFO("inputs that are activations: every bit as with leaves");
      CHECK(inside.gradients == reference.gradients);
    }
    const Run threaded = run_case(c, arrays, {.dtype = dtype, .threads = 3});
    INFO("3 threads: every bit as with 1");
    CHECK(threaded.outputs == reference.outputs);
    CHECK(threaded.gradients == reference.gradients);
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      if (reference.gradients[i].empty()) continue;
      INFO("only the gradient of input ", i, ": every bit as among the others");
      CHECK(run_case(c, arrays, {.dtype = dtype, .only = i}).gradients[i] == reference.gradients[i]);
    }
  }
  set_threads(1);
}

}  // namespace parabola::test
