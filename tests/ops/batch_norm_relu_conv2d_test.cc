#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/binary.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/reduce.h"
#include "engine/tape/plan.h"
#include "engine/tape/tape.h"
#include "tests/ops/conv_reference.h"
#include "tests/support/test.h"

namespace parabola::batch_norm_relu_conv2d_test {

using namespace test;

namespace {

// Straight from the formulas: mean and variance of each channel, the residual, if there is one, the relu, then the
// convolution, of which it may return what was read too.
std::vector<Array> reference(const ConvGeometry& g, double eps, bool returns_normed, const std::vector<Array>& in) {
  Array r = in[0];
  const size_t channels = in[1].size(), rows = r.size() / channels;
  for (size_t c = 0; c < channels; ++c) {
    double mean = 0, variance = 0;
    for (size_t row = 0; row < rows; ++row) mean += r[row * channels + c] / static_cast<double>(rows);
    for (size_t row = 0; row < rows; ++row)
      variance += std::pow(r[row * channels + c] - mean, 2) / static_cast<double>(rows);
    for (size_t row = 0; row < rows; ++row) {
      double& value = r[row * channels + c];
      value = (value - mean) / std::sqrt(variance + eps) * in[1][c] + in[2][c];
      if (!in[5].empty()) value += in[5][row * channels + c];
      value = std::max(0.0, value);
    }
  }
  std::vector<Array> results = {naive_conv2d(g, r, in[6], {})};
  if (returns_normed) results.push_back(r);
  return results;
}

struct Case {
  const char* name;
  Shape x, weight;
  ConvAttributes conv;
  bool x_wanted = true, gamma_wanted = true, beta_wanted = true, weight_wanted = true, residual_wanted = true;
};

void check_one(const Case& c, bool has_residual, bool returns_normed) {
  const ConvGeometry g = conv_geometry("test", c.x, c.weight, c.conv);
  const BatchNormReluConv2dAttributes attributes{.eps = 1e-3, .conv = c.conv, .returns_normed = returns_normed};
  const Shape channels{g.C};
  check_op({.name = c.name,
            .op = &batch_norm_relu_conv2d_op,
            .inputs = {{.shape = c.x, .gradient = c.x_wanted},
                       {.shape = channels, .low = 0.5, .high = 1.5, .gradient = c.gamma_wanted},
                       {.shape = channels, .gradient = c.beta_wanted},
                       {.shape = channels, .gradient = false},
                       {.shape = channels, .low = 0.5, .high = 1.5, .gradient = false},
                       {.shape = c.x, .gradient = c.residual_wanted, .absent = !has_residual},
                       {.shape = c.weight, .gradient = c.weight_wanted}},
            .attributes = attributes,
            .reference = [&](const std::vector<Array>& in) { return reference(g, attributes.eps, returns_normed, in); },
            // Batch statistics divide by a deviation, which multiplies the rounding of its sum.
            .f64_tolerance = 1e-11,
            .f32_tolerance = 5e-6,
            .difference_tolerance = 1e-6,
            .max_differences = 24});
}

void check(const Case& c) {
  for (const bool has_residual : {false, true})
    for (const bool returns_normed : {false, true}) check_one(c, has_residual, returns_normed);
}

}  // namespace

TEST_CASE("batch_norm_relu_conv2d") {
  check({"3x3, padding", {2, 5, 6, 3}, {4, 3, 3, 3}, {.padding = 1}});
  check({"Winograd's algorithm", {2, 4, 5, 16}, {16, 3, 3, 16}, {.padding = 1}});
  check({"Winograd's algorithm, no padding, several channels", {2, 9, 7, 48}, {32, 3, 3, 48}, {}});
  check({"Winograd's algorithm, wide padding", {1, 5, 4, 16}, {32, 3, 3, 16}, {.padding = 2}});
  check({"stride 2", {2, 7, 8, 3}, {5, 3, 3, 3}, {.stride = 2, .padding = 1}});
  check({"1x1", {3, 4, 5, 7}, {5, 1, 1, 7}, {}});
  check({"dilation 2, groups 2", {1, 9, 8, 4}, {6, 3, 3, 2}, {.padding = 2, .dilation = 2, .groups = 2}});
}

TEST_CASE("batch_norm_relu_conv2d: frozen arguments") {
  for (const int64_t channels : {3, 16}) {  // 16 by Winograd's algorithm
    const Shape x{2, 4, 5, channels}, weight{16, 3, 3, channels};
    check({"x frozen", x, weight, {.padding = 1}, false});
    check({"the weight frozen", x, weight, {.padding = 1}, true, true, true, false});
    check({"x alone", x, weight, {.padding = 1}, true, false, false, false, false});
    check({"gamma alone", x, weight, {.padding = 1}, false, true, false, false, false});
    check({"beta alone", x, weight, {.padding = 1}, false, false, true, false, false});
    check({"the weight alone", x, weight, {.padding = 1}, false, false, false, true, false});
    for (const bool returns_normed : {false, true})
      check_one({"the residual alone", x, weight, {.padding = 1}, false, false, false, false}, true, returns_normed);
    check({"the residual frozen", x, weight, {.padding = 1}, true, true, true, true, false});
  }
}

namespace {

// y, gradients and running statistics of the op, or of the ops one by one.
std::vector<std::vector<float>> results_of(bool fused, int64_t channels, bool has_residual, bool returns_normed,
                                           Checkpoint checkpoint) {
  const Tensor x = random_tensor({3, 8, 9, channels}, 0), gamma = random_tensor({channels}, 1, 0.5, 1.5),
               beta = random_tensor({channels}, 2), weight = random_tensor({32, 3, 3, channels}, 3),
               mean = random_tensor({channels}, 4), variance = random_tensor({channels}, 5, 0.5, 1.5),
               other = random_tensor({3, 8, 9, channels}, 6);
  for (const Tensor* leaf : {&x, &gamma, &beta, &weight, &other}) leaf->set_requires_gradient(true);
  std::vector<std::vector<float>> results;
  Tape tape({.checkpoint = checkpoint});
  const ConvAttributes conv{.padding = 1};
  const Tensor z = x * x, added = other * other, residual = has_residual ? added : Tensor();
  Tensor normed, y;
  if (fused) {
    y = batch_norm_relu_conv2d(z, gamma, beta, mean, variance, weight, {.momentum = 0.3, .conv = conv}, residual,
                               returns_normed ? &normed : nullptr);
  } else {
    normed = batch_norm(z, gamma, beta, mean, variance, {.momentum = 0.3, .relu = true}, residual);
    y = conv2d(normed, weight, {}, conv);
  }
  results.push_back(y.to_vector<float>());
  Tensor others = sum(z) + sum(added);  // gradients that are there before
  if (returns_normed) others = sum(normed * x) + others;
  tape.backward(sum(y * y) + others);
  for (const Tensor* leaf : {&x, &gamma, &beta, &weight, &other})
    results.push_back(leaf->gradient().to_vector<float>());
  results.push_back(mean.to_vector<float>());
  results.push_back(variance.to_vector<float>());
  return results;
}

}  // namespace

TEST_CASE("batch_norm_relu_conv2d: the bits of the ops one by one, and running statistics that move once") {
  for (const int64_t channels : {16, 20})
    for (const bool has_residual : {false, true})
      for (const bool returns_normed : {false, true})
        for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks})
          CHECK(results_of(true, channels, has_residual, returns_normed, checkpoint) ==
                results_of(false, channels, has_residual, returns_normed, checkpoint));
}

TEST_CASE("batch_norm_relu_conv2d: x may be its own residual") {
  std::vector<std::vector<float>> results[2];
  for (const bool fused : {false, true}) {
    const Tensor x = random_tensor({3, 8, 9, 16}, 0), one = random_tensor({16}, 1),
                 weight = random_tensor({16, 1, 1, 16}, 2), mean = random_tensor({16}, 3),
                 variance = random_tensor({16}, 4, 0.5, 1.5);
    x.set_requires_gradient(true);
    Tape tape;
    const Tensor y = fused ? batch_norm_relu_conv2d(x, one, one, mean, variance, weight, {}, x)
                           : conv2d(batch_norm(x, one, one, mean, variance, {.relu = true}, x), weight);
    tape.backward(sum(y * y));
    results[fused] = {y.to_vector<float>(), x.gradient().to_vector<float>()};
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("batch_norm_relu_conv2d: a gradient that is added afterwards is in a step's plan") {
  const Tensor x = random_tensor({8, 16, 16, 16}, 0), gamma = random_tensor({16}, 1), beta = random_tensor({16}, 2),
               weight = random_tensor({16, 1, 1, 16}, 3), mean = random_tensor({16}, 4),
               variance = random_tensor({16}, 5, 0.5, 1.5);
  for (const bool leaf : {true, false}) {  // else its gradient is an activation
    for (const Tensor* tensor : {&x, &weight}) tensor->set_requires_gradient(true);
    const auto loss = [&] {
      const Tensor z = leaf ? x : x * x;
      const auto y = [&] {
        return batch_norm_relu_conv2d(z, gamma, beta, mean, variance, weight, {.conv = {.stride = 4}});
      };
      const Tensor first = y();
      return sum(first + y());
    };
    const Plan plan = plan_step({.checkpoint = Checkpoint::none}, loss, test_device());
    Memory& memory = Memory::of(test_device());
    const size_t before = memory.activation_bytes();
    memory.reset_peak();
    Tape tape({.checkpoint = Checkpoint::none});
    tape.backward(loss());
    CHECK(plan.peak_bytes == memory.peak_activation_bytes() - before);
    x.zero_gradient();
  }
}

TEST_CASE("batch_norm_relu_conv2d keeps x, and says what does not fit") {
  const Attributes attributes = BatchNormReluConv2dAttributes{.conv = {.padding = 1}};
  const Shape channels{16};
  std::vector<TensorSpec> inputs = {{Shape{2, 8, 8, 16}}, {channels}, {channels}, {channels}, {channels}};
  inputs.push_back({Shape{2, 8, 8, 16}, DType::f32, false});
  inputs.push_back({Shape{32, 3, 3, 16}});
  const Needs needs = batch_norm_relu_conv2d_op.needs({attributes, inputs, 0x47});
  CHECK(needs.inputs == 0x47);
  CHECK(needs.outputs == 0);
  inputs[5].present = true;
  CHECK(batch_norm_relu_conv2d_op.needs({attributes, inputs, 0x67}).inputs == 0x67);
  size_t kept = 0;
  for (const TensorSpec& spec : batch_norm_relu_conv2d_op.layout({attributes, inputs}).auxiliary) kept += spec.bytes();
  CHECK(kept == 2 * 16 * 4);  // mean and deviation
  inputs[2].shape = Shape{3};
  CHECK_THROWS_WITH_AS(batch_norm_relu_conv2d_op.layout({attributes, inputs}),
                       "[batch_norm_relu_conv2d] beta: got [3], expected [16]", ShapeError);
  inputs[2].shape = channels;
  inputs[5].shape = Shape{2, 8, 16};
  CHECK_THROWS_WITH_AS(batch_norm_relu_conv2d_op.layout({attributes, inputs}),
                       "[batch_norm_relu_conv2d] residual: got [2, 8, 16], expected [2, 8, 8, 16]", ShapeError);
  inputs[5].present = false;
  inputs[6].shape = Shape{32, 3, 3, 8};
  CHECK_THROWS_WITH_AS(batch_norm_relu_conv2d_op.layout({attributes, inputs}), doctest::Contains("[32, 3, 3, 8]"),
                       ShapeError);
  inputs[0].shape = Shape{1, 1, 1, 16}, inputs[6].shape = Shape{32, 1, 1, 16};
  CHECK_THROWS_WITH_AS(batch_norm_relu_conv2d_op.layout({Attributes(BatchNormReluConv2dAttributes{}), inputs}),
                       doctest::Contains("expected at least 2 values for each channel"), ShapeError);
}

}  // namespace parabola::batch_norm_relu_conv2d_test
