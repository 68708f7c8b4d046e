#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/conv_reference.h"
#include "tests/ops/golden.h"
#include "tests/support/test.h"

namespace parabola::quadratic_conv2d_normed_test {

using namespace test;

namespace {

struct Case {
  int64_t N, H, W, C, K, R;
  NormedConvAttributes attributes;
};

// Straight from the formula: three convolutions, each normalised by its own (or the given) statistics, a∘b + c.
std::vector<Array> reference(const Case& c, const std::vector<Array>& in) {
  const ConvAttributes conv{.stride = c.attributes.stride, .padding = c.attributes.padding};
  const ConvGeometry g = conv_geometry("test", Shape{c.N, c.H, c.W, c.C}, c.K, c.R, c.R, conv);
  std::vector<Array> branches;
  for (size_t k = 0; k < 3; ++k) {
    Array z = naive_conv2d(g, in[0], in[1 + k], {});
    const size_t K = static_cast<size_t>(c.K), rows = z.size() / K;
    for (size_t j = 0; j < K; ++j) {
      double mean = in[10 + 2 * k][j], variance = in[11 + 2 * k][j];
      if (c.attributes.training) {
        mean = variance = 0;
        for (size_t row = 0; row < rows; ++row) mean += z[row * K + j] / static_cast<double>(rows);
        for (size_t row = 0; row < rows; ++row)
          variance += std::pow(z[row * K + j] - mean, 2) / static_cast<double>(rows);
      }
      for (size_t row = 0; row < rows; ++row)
        z[row * K + j] =
            (z[row * K + j] - mean) / std::sqrt(variance + c.attributes.eps) * in[4 + 2 * k][j] + in[5 + 2 * k][j];
    }
    branches.push_back(z);
  }
  Array y = branches[2];
  for (size_t i = 0; i < y.size(); ++i) y[i] += branches[0][i] * branches[1][i];
  return {y};
}

void check(const std::string& name, const Case& c) {
  std::vector<Input> inputs = {{.shape = {c.N, c.H, c.W, c.C}}};
  for (int k = 0; k < 3; ++k) inputs.push_back({.shape = {c.K, c.R, c.R, c.C}});
  for (int k = 0; k < 6; ++k) inputs.push_back({.shape = {c.K}, .low = 0.5, .high = 1.5});
  for (int k = 0; k < 3; ++k) {
    inputs.push_back({.shape = {c.K}, .gradient = false});
    inputs.push_back({.shape = {c.K}, .low = 0.5, .high = 2, .gradient = false});
  }
  check_op({.name = name,
            .op = c.attributes.training ? &quadratic_conv2d_normed_op : &quadratic_conv2d_normed_inference_op,
            .inputs = inputs,
            .attributes = c.attributes,
            .reference = [c](const std::vector<Array>& in) { return reference(c, in); },
            // Batch statistics divide by a deviation, which multiplies the rounding of its sum.
            .f64_tolerance = 1e-11,
            .f32_tolerance = 5e-6,
            .difference_tolerance = 1e-6,
            .max_differences = 24});
}

}  // namespace

TEST_CASE("quadratic_conv2d_normed") {
  for (const bool training : {true, false}) {
    check("3x3, padding", {2, 5, 6, 3, 4, 3, {.padding = 1, .training = training}});
    check("Winograd's algorithm", {2, 4, 5, 16, 16, 3, {.padding = 1, .training = training}});
    check("stride 2, odd sizes", {3, 7, 5, 5, 17, 3, {.stride = 2, .padding = 1, .training = training}});
    check("1x1, one channel, another eps", {4, 3, 3, 1, 1, 1, {.eps = 1e-3, .training = training}});
  }
}

TEST_CASE("quadratic_conv2d_normed: PyTorch's values, and running statistics that move once") {
  for (const DType dtype : {DType::f64, DType::f32})
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
      const GoldenCase golden("quadratic_conv2d_normed", dtype, true);
      const Tensor x = golden.leaf("input");
      std::vector<std::pair<std::string, Tensor>> leaves = {{"input", x}};
      std::array<NormedBranch, 3> branches;
      for (size_t k = 0; k < 3; ++k) {
        const std::string letter(1, "abc"[k]), norm = "bn_" + letter + ".";
        branches[k] = {golden.leaf("conv_" + letter + ".weight"), golden.leaf(norm + "weight"),
                       golden.leaf(norm + "bias"), golden.get(norm + "running_mean"), golden.get(norm + "running_var")};
        leaves.emplace_back("conv_" + letter + ".weight", branches[k].weight);
        leaves.emplace_back(norm + "weight", branches[k].gamma);
        leaves.emplace_back(norm + "bias", branches[k].beta);
      }
      {
        Tape tape({.checkpoint = checkpoint});
        golden.check_gradients(quadratic_conv2d_normed(x, branches, {.stride = 2, .padding = 1}), leaves);
      }
      for (size_t k = 0; k < 3; ++k) {
        const std::string norm = std::string("after/bn_") + "abc"[k] + ".";
        golden.check(norm + "running_mean", branches[k].running_mean);
        golden.check(norm + "running_var", branches[k].running_variance);
      }
    }
}

TEST_CASE("quadratic_conv2d_normed: what is kept, and what does not fit") {
  const Attributes attributes = NormedConvAttributes{.padding = 1};
  std::vector<TensorSpec> inputs = {{Shape{2, 8, 8, 4}}};
  for (int k = 0; k < 3; ++k) inputs.push_back({Shape{6, 3, 3, 4}});
  for (int k = 0; k < 12; ++k) inputs.push_back({Shape{6}});
  const auto kept = [&](int variant) {
    size_t bytes = 0;
    for (const TensorSpec& spec : quadratic_conv2d_normed_op.layout({attributes, inputs, 0x3ff, variant}).auxiliary)
      bytes += spec.bytes();
    return bytes;
  };
  const size_t statistics = 2 * 3 * 6 * 4, branch = 2 * 8 * 8 * 6 * 4;
  CHECK(kept(0) == statistics);               // PAPER 4.1: x only, plus means and deviations
  CHECK(kept(1) == statistics + 3 * branch);  // and the three BatchNorm inputs
  inputs[2].shape = Shape{6, 1, 1, 4};
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed_op.layout({attributes, inputs}),
                       doctest::Contains("weight: got [6, 1, 1, 4]"), ShapeError);
}

}  // namespace parabola::quadratic_conv2d_normed_test
