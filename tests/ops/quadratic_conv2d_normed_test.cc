#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
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
  bool output = false, residual = false;        // norm of the output, and what is added to that
  uint64_t wanted = bits_below(output_inputs);  // gradients; x, weights, norms; the last three of the output's norm

  static constexpr int output_inputs = 21;
  static constexpr uint64_t bits_below(int end) { return (uint64_t{1} << end) - 1; }
};

// Each column by its own mean and deviation, or the given ones.
void normalise(Array& z, const Array& gamma, const Array& beta, double eps, const Array* given_mean = nullptr,
               const Array* given_variance = nullptr) {
  const size_t K = gamma.size(), rows = z.size() / K;
  for (size_t j = 0; j < K; ++j) {
    double mean = 0, variance = 0;
    for (size_t row = 0; row < rows; ++row) mean += z[row * K + j] / static_cast<double>(rows);
    for (size_t row = 0; row < rows; ++row) variance += std::pow(z[row * K + j] - mean, 2) / static_cast<double>(rows);
    if (given_mean) mean = (*given_mean)[j], variance = (*given_variance)[j];
    for (size_t row = 0; row < rows; ++row)
      z[row * K + j] = (z[row * K + j] - mean) / std::sqrt(variance + eps) * gamma[j] + beta[j];
  }
}

// Straight from the formula: three convolutions, each normalised by its own (or the given) statistics, a∘b + c, and
// that once more.
std::vector<Array> reference(const Case& c, const std::vector<Array>& in) {
  const ConvAttributes conv{.stride = c.attributes.stride, .padding = c.attributes.padding};
  const ConvGeometry g = conv_geometry("test", Shape{c.N, c.H, c.W, c.C}, c.K, c.R, c.R, conv);
  const bool given = !c.attributes.training;
  std::vector<Array> branches;
  for (size_t k = 0; k < 3; ++k) {
    branches.push_back(naive_conv2d(g, in[0], in[1 + k], {}));
    normalise(branches[k], in[4 + 2 * k], in[5 + 2 * k], c.attributes.eps, given ? &in[10 + 2 * k] : nullptr,
              given ? &in[11 + 2 * k] : nullptr);
  }
  Array y = branches[2];
  for (size_t i = 0; i < y.size(); ++i) y[i] += branches[0][i] * branches[1][i];
  if (!c.output) return {y};
  normalise(y, in[16], in[17], c.attributes.output.eps);
  for (size_t i = 0; i < y.size(); ++i) {
    if (c.residual) y[i] += in[20][i];
    if (c.attributes.output.relu) y[i] = std::max(0.0, y[i]);
  }
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
  if (c.output) {
    const ConvAttributes conv{.stride = c.attributes.stride, .padding = c.attributes.padding};
    inputs.push_back({.shape = {c.K}, .low = 0.5, .high = 1.5});
    inputs.push_back({.shape = {c.K}});
    inputs.push_back({.shape = {c.K}, .gradient = false});
    inputs.push_back({.shape = {c.K}, .low = 0.5, .high = 2, .gradient = false});
    inputs.push_back(
        {.shape = conv_geometry("test", inputs[0].shape, c.K, c.R, c.R, conv).output_shape(), .absent = !c.residual});
  }
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i].gradient &= c.wanted >> i & 1;
  if (c.output) inputs[9].gradient = false;  // c's beta moves all of the product, which its norm undoes: zero
  check_op({.name = name,
            .op = c.attributes.training ? &quadratic_conv2d_normed_op : &quadratic_conv2d_normed_inference_op,
            .inputs = inputs,
            .attributes = c.attributes,
            .reference = [c](const std::vector<Array>& in) { return reference(c, in); },
            // Batch statistics divide by a deviation, which multiplies the rounding of its sum; twice, with an output
            // norm.
            .f64_tolerance = 1e-11,
            .f32_tolerance = c.output ? 2e-5 : 5e-6,
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

TEST_CASE("quadratic_conv2d_normed with a norm of its output") {
  const auto of = [](bool relu, int stride = 1) {
    return NormedConvAttributes{.stride = stride, .padding = 1, .output = {.eps = 1e-3, .relu = relu}};
  };
  for (const bool relu : {true, false})
    for (const bool residual : {true, false}) check("3x3", {2, 5, 6, 3, 4, 3, of(relu), true, residual});
  check("Winograd's algorithm", {2, 4, 5, 16, 16, 3, of(true), true, true});
  check("stride 2", {2, 7, 5, 5, 7, 3, of(true, 2), true, true});
  check("the output's gamma alone", {2, 3, 4, 2, 3, 3, of(true), true, true, 1 << 16});
  check("the output's beta alone", {2, 3, 4, 2, 3, 3, of(true), true, false, 1 << 17});
  check("the residual alone", {2, 3, 4, 2, 3, 3, of(true), true, true, 1 << 20});
  check("x alone", {2, 3, 4, 2, 3, 3, of(true), true, true, 1});
}

TEST_CASE("quadratic_conv2d_normed with a norm of its output: the bits of the ops one by one") {
  constexpr int64_t K = 16;
  for (const bool training : {true, false})
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
      std::vector<std::vector<float>> results[2];
      for (const bool fused : {false, true}) {
        const Tensor x = random_tensor({3, 6, 7, K}, 0);
        std::array<NormedBranch, 3> branches;
        for (uint32_t k = 0; k < 3; ++k)
          branches[k] = {random_tensor({K, 3, 3, K}, 2 + k), random_tensor({K}, 5 + k, 0.5, 1.5),
                         random_tensor({K}, 8 + k), random_tensor({K}, 11 + k), random_tensor({K}, 14 + k, 0.5, 1.5)};
        const OutputNorm output{random_tensor({K}, 17, 0.5, 1.5), random_tensor({K}, 18), random_tensor({K}, 19),
                                random_tensor({K}, 20, 0.5, 1.5), random_tensor({3, 6, 7, K}, 1)};
        const std::array<const Tensor*, 6> leaves = {
            &x, &output.residual, &branches[0].weight, &branches[2].gamma, &output.gamma, &output.beta};
        for (const Tensor* leaf : leaves) leaf->set_requires_gradient(true);
        const NormedConvAttributes attributes{
            .padding = 1, .training = training, .output = {.momentum = 0.3, .training = training, .relu = true}};
        Tape tape({.checkpoint = checkpoint});
        const Tensor y =
            fused ? quadratic_conv2d_normed(x, branches, attributes, output)
                  : batch_norm(quadratic_conv2d_normed(x, branches, attributes), output.gamma, output.beta,
                               output.running_mean, output.running_variance, attributes.output, output.residual);
        results[fused].push_back(y.to_vector<float>());
        tape.backward(sum(y * y));
        for (const Tensor* leaf : leaves) results[fused].push_back(leaf->gradient().to_vector<float>());
        for (const Tensor& moved : {branches[1].running_mean, output.running_mean, output.running_variance})
          results[fused].push_back(moved.to_vector<float>());
      }
      CHECK(results[0] == results[1]);
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
  inputs.resize(20, {Shape{6}});
  inputs.push_back({.present = false});
  CHECK(kept(1) == statistics + 3 * branch + 2 * 6 * 4);  // with the output's norm its own statistics
  CHECK(quadratic_conv2d_normed_op.needs({attributes, inputs, 0x303ff, 1}).outputs == 0);
  inputs[17].shape = Shape{3};
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed_op.layout({attributes, inputs}),
                       doctest::Contains("beta: got [3], expected [6]"), ShapeError);
  inputs[17].shape = Shape{6};
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed_inference_op.layout({attributes, inputs}),
                       doctest::Contains("got 21 inputs, expected 16"), UsageError);
  inputs.pop_back();
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed_op.layout({attributes, inputs}),
                       doctest::Contains("got 20 inputs, expected 16, or 21 with a norm of the output"), UsageError);
  const Tensor x = random_tensor({2, 5, 5, 4}, 0), channel = random_tensor({6}, 1),
               weight = random_tensor({6, 3, 3, 4}, 2);
  std::array<NormedBranch, 3> branches;
  branches.fill({weight, channel, channel, channel, channel});
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed(x, branches, {}, {.residual = x}),
                       doctest::Contains("a part of an output norm without its gamma"), UsageError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed(x, branches, {}, {.gamma = channel}),
                       "[quadratic_conv2d_normed] input 17 is absent", UsageError);
  inputs[2].shape = Shape{6, 1, 1, 4};
  CHECK_THROWS_WITH_AS(quadratic_conv2d_normed_op.layout({attributes, inputs}),
                       doctest::Contains("weight: got [6, 1, 1, 4]"), ShapeError);
}

}  // namespace parabola::quadratic_conv2d_normed_test
