#include "tests/ops/harness.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/tape/tape.h"

namespace parabola::test {
namespace {

// loss = sum(w * y), so that one number depends on every output element. An op from outside of the engine, as a user's.
Layout projection_layout(const Signature& s) { return {.outputs = {{Shape{}, s.dtype()}}}; }

const OpDef projection_op = {
    .name = "test_projection",
    .layout = projection_layout,
    .needs = [](const Signature&) { return Needs{.inputs = 2}; },
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "test_projection", [&]<class T>() {
                double sum = 0;
                for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i)
                  sum += static_cast<double>(a.inputs[0].data<T>()[i]) * static_cast<double>(a.inputs[1].data<T>()[i]);
                *a.outputs[0].data<T>() = static_cast<T>(sum);
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[1].dtype, "test_projection", [&]<class T>() {
                for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i) {
                  const T d = *a.output_gradients[0].data<T>() * a.inputs[1].data<T>()[i];
                  T& dx = a.input_gradients[0].data<T>()[i];
                  dx = a.accumulates(0) ? dx + d : d;
                }
              });
            }},
};

const OpDef sum_losses_op = {
    .name = "test_sum_losses",
    .layout = projection_layout,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "test_sum_losses", [&]<class T>() {
                T sum = 0;
                for (const TensorView& input : a.inputs) sum += *input.data<T>();
                *a.outputs[0].data<T>() = sum;
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "test_sum_losses", [&]<class T>() {
                for (size_t i = 0; i < a.input_gradients.size(); ++i)
                  if (a.wants(static_cast<int>(i))) *a.input_gradients[i].data<T>() = *a.output_gradients[0].data<T>();
              });
            }},
};

std::vector<std::string>& checked() {
  static std::vector<std::string> names;
  return names;
}

struct Run {
  std::vector<Array> outputs, gradients;  // gradients empty where not wanted
  double loss = 0;
};

struct RunOptions {
  DType dtype = DType::f64;
  Checkpoint checkpoint = Checkpoint::standard;
  int threads = 1;
  std::optional<size_t> only;  // the one input whose gradient is wanted
  int backwards = 1;
  bool gradients = true;
};

Array values_of(const Tensor& tensor) {
  Array values;
  if (tensor)
    for (int64_t i = 0; i < tensor.elements(); ++i) values.push_back(tensor.at(i));
  return values;
}

// The inputs are rounded to float first, so that f32 and f64 runs see the same numbers.
std::vector<Array> make_inputs(const OpCase& c) {
  std::vector<Array> arrays;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    Array values;
    if (!input.absent)
      values = random_array(input.shape.elements(), input.low, input.high, static_cast<uint32_t>(i), input.kink);
    if (input.classes > 0)
      for (size_t k = 0; k < values.size(); ++k)
        values[k] = static_cast<double>((k * 7 + 3) % static_cast<size_t>(input.classes));
    arrays.push_back(values);
  }
  return arrays;
}

Run run_case(const OpCase& c, const std::vector<Array>& arrays, const RunOptions& options) {
  set_threads(options.threads);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    if (input.absent) {
      inputs.emplace_back();
    } else if (input.classes > 0) {
      inputs.push_back(Tensor::from(std::vector<int32_t>(arrays[i].begin(), arrays[i].end()), input.shape));
    } else {
      inputs.push_back(Tensor::from(arrays[i], input.shape).to(options.dtype, Category::inputs));
      const bool wanted = input.gradient && (!options.only || *options.only == i);
      if (wanted) inputs.back().set_requires_gradient(true);
    }
  }
  Run run;
  for (int repeat = 0; repeat < options.backwards; ++repeat) {
    run.outputs.clear();
    Tape tape({.checkpoint = options.checkpoint, .seed = 7, .step = 3});
    std::vector<Tensor> losses;
    {
      const std::vector<Tensor> outputs = parabola::apply(*c.op, inputs, c.attributes);
      for (size_t k = 0; k < outputs.size(); ++k) {
        run.outputs.push_back(values_of(outputs[k]));
        const Tensor weights = Tensor::from(random_array(outputs[k].elements(), -1, 1, 1000 + static_cast<uint32_t>(k)),
                                            outputs[k].shape())
                                   .to(outputs[k].dtype(), Category::inputs);
        losses.push_back(apply(projection_op, {outputs[k], weights}));
      }
    }  // the outputs' handles die here, so that the policy decides what stays
    const Tensor loss = losses.empty() ? Tensor() : parabola::apply(sum_losses_op, losses)[0];
    if (loss) run.loss = loss.item();
    if (options.gradients && loss) tape.backward(loss);
  }
  for (const Tensor& input : inputs)
    run.gradients.push_back(input && input.requires_gradient() ? values_of(input.gradient()) : Array());
  return run;
}

bool wants_any_gradient(const OpCase& c) {
  return std::ranges::any_of(c.inputs, [](const Input& i) { return i.gradient && !i.absent && i.classes == 0; });
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
