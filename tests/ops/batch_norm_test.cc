#include "engine/ops/batch_norm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/matmul.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::batch_norm_test {

using namespace test;

namespace {

double at(const Array& values, int64_t i) { return values[static_cast<size_t>(i)]; }

std::vector<Array> reference(const std::vector<Array>& in, bool training, double eps) {
  const int64_t channels = static_cast<int64_t>(in[1].size()), count = static_cast<int64_t>(in[0].size());
  const double rows = static_cast<double>(count) / static_cast<double>(channels);
  Array y(in[0].size());
  for (int64_t c = 0; c < channels; ++c) {
    double mean = 0, variance = 0;
    for (int64_t i = c; i < count; i += channels) mean += at(in[0], i) / rows;
    for (int64_t i = c; i < count; i += channels) variance += std::pow(at(in[0], i) - mean, 2) / rows;
    if (!training) mean = at(in[3], c), variance = at(in[4], c);
    for (int64_t i = c; i < count; i += channels) {
      y[static_cast<size_t>(i)] = (at(in[0], i) - mean) / std::sqrt(variance + eps) * at(in[1], c) + at(in[2], c);
    }
  }
  return {y};
}

Tensor channel(double value, int64_t channels = 1, DType dtype = DType::f64) {
  return Tensor::full({channels}, value, dtype, Category::parameters, test_device());
}

void check_batch_norm(const std::string& name, const Shape& shape, bool x_wanted = true, bool gamma_wanted = true,
                      bool beta_wanted = true) {
  const Shape channels{shape.back()};
  for (const bool training : {true, false}) {
    const BatchNormOptions options{.eps = 1e-3, .training = training};
    check_op({.name = name,
              .op = training ? &batch_norm_op : &batch_norm_inference_op,
              .inputs = {{.shape = shape, .gradient = x_wanted},
                         {.shape = channels, .low = 0.5, .high = 1.5, .gradient = gamma_wanted},
                         {.shape = channels, .gradient = beta_wanted},
                         {.shape = channels, .gradient = false},
                         {.shape = channels, .low = 0.5, .high = 1.5, .gradient = false}},
              .attributes = options,
              .reference = [&](const std::vector<Array>& in) { return reference(in, training, options.eps); },
              .max_differences = 20});
  }
}

// With relu, residual or both. Of few elements, so that no difference crosses the relu's corner.
void check_fused(const std::string& name, const Shape& shape, bool relu, bool has_residual,
                 std::array<bool, 4> wanted = {true, true, true, true}) {
  const Shape channels{shape.back()};
  for (const bool training : {true, false}) {
    const BatchNormOptions options{.eps = 1e-3, .training = training, .relu = relu};
    check_op({.name = name,
              .op = training ? &batch_norm_op : &batch_norm_inference_op,
              .inputs = {{.shape = shape, .gradient = wanted[0]},
                         {.shape = channels, .low = 0.5, .high = 1.5, .gradient = wanted[1]},
                         {.shape = channels, .gradient = wanted[2]},
                         {.shape = channels, .gradient = false},
                         {.shape = channels, .low = 0.5, .high = 1.5, .gradient = false},
                         {.shape = shape, .gradient = wanted[3], .absent = !has_residual}},
              .attributes = options,
              .reference =
                  [&](const std::vector<Array>& in) {
                    Array y = reference(in, training, options.eps)[0];
                    for (size_t i = 0; i < y.size(); ++i) {
                      if (has_residual) y[i] += in[5][i];
                      if (relu) y[i] = std::max(y[i], 0.0);
                    }
                    return std::vector<Array>{y};
                  },
              .max_differences = 20});
  }
}

}  // namespace

TEST_CASE("batch_norm: with a residual and a relu") {
  for (const bool relu : {true, false})
    for (const bool residual : {true, false}) {
      check_fused("an image batch", {3, 4, 5, 7}, relu, residual);
      if (!relu) check_fused("more than one block", {2, 37, 5, 17}, relu, residual);
    }
  check_fused("x frozen", {7, 5}, true, true, {false, true, true, true});
  check_fused("the residual alone", {7, 5}, true, true, {false, false, false, true});
  check_fused("the residual frozen", {7, 5}, true, true, {true, true, true, false});
  for (size_t alone = 0; alone < 3; ++alone)
    check_fused("a relu and one gradient", {7, 5}, true, false, {alone == 0, alone == 1, alone == 2, false});
}

namespace {

void check_bits_one_by_one(const Shape& shape, bool has_residual) {
  const int64_t channels = shape.back();
  const Tensor one = channel(1.25, channels, DType::f32), zero = channel(0.1, channels, DType::f32);
  std::vector<std::vector<float>> results[2];
  for (const bool fused : {false, true}) {
    const Tensor x = random_tensor(shape, 0), residual = has_residual ? random_tensor(shape, 1) : Tensor();
    x.set_requires_gradient(true);
    if (residual) residual.set_requires_gradient(true);
    Tape tape;
    const Tensor mean = channel(0, channels, DType::f32), variance = channel(1, channels, DType::f32);
    Tensor y;
    if (fused) {
      y = batch_norm(x, one, zero, mean, variance, {.relu = true}, residual);
    } else {
      y = batch_norm(x, one, zero, mean, variance, {});
      y = relu(residual ? y + residual : y);
    }
    results[fused].push_back(y.to_vector<float>());
    tape.backward(sum(y * y));
    results[fused].push_back(x.gradient().to_vector<float>());
    if (residual) results[fused].push_back(residual.gradient().to_vector<float>());
  }
  CHECK(results[0] == results[1]);
}

}  // namespace

TEST_CASE("batch_norm: a residual and a relu give the bits of the ops one by one") {
  for (const bool residual : {true, false}) {
    check_bits_one_by_one({6, 8, 8, 16}, residual);
    check_bits_one_by_one({1 << 16, 64}, residual);  // 16 MiB, which go past the caches
  }
}

TEST_CASE("batch_norm: a result too large for the caches has the bits of smaller ones") {
  constexpr int64_t rows = 1 << 16, channels = 64;  // 16 MiB, which go past the caches; halves do not
  const auto run = [](int64_t first, int64_t count) {
    const auto part = [&](uint32_t item) {
      const Array all = random_array(rows * channels, -1, 1, item);
      return Tensor::from(Array(all.begin() + first * channels, all.begin() + (first + count) * channels),
                          {count, channels})
          .to(DType::f32, Category::inputs)
          .to(test_device(), Category::inputs);
    };
    const Tensor x = part(0), dy = part(1), residual = part(2);
    x.set_requires_gradient(true);
    Tape tape;
    const auto filled = [](double value) { return channel(value, channels, DType::f32); };
    const Tensor y =
        batch_norm(x, filled(1.25), filled(0.1), filled(0.2), filled(1.5), {.training = false, .relu = true}, residual);
    tape.backward(sum(y * dy));
    return std::pair{y.to_vector<float>(), x.gradient().to_vector<float>()};
  };
  const auto [y, dx] = run(0, rows);
  for (const int64_t first : {int64_t{0}, rows / 2}) {
    const auto [half_y, half_dx] = run(first, rows / 2);
    CHECK(std::equal(half_y.begin(), half_y.end(), y.begin() + first * channels));
    CHECK(std::equal(half_dx.begin(), half_dx.end(), dx.begin() + first * channels));
  }
}

TEST_CASE("batch_norm: training and inference") {
  check_batch_norm("an image batch", {3, 4, 5, 7});
  check_batch_norm("rows of one channel", {9, 1});
  check_batch_norm("more channels than a vector has lanes", {5, 37});
  check_batch_norm("more than one block and task", {2, 37, 29, 17});
  check_batch_norm("a matrix wider than a block of threads", {5, 301});
}

TEST_CASE("batch_norm: frozen arguments") {
  check_batch_norm("x frozen", {7, 5}, false, true, true);
  check_batch_norm("gamma and beta frozen", {7, 5}, true, false, false);
  check_batch_norm("gamma only", {7, 5}, false, true, false);
  check_batch_norm("beta only", {7, 5}, false, false, true);
}

TEST_CASE("batch_norm in single precision far from zero") {
  // Mean 1e3, deviation 1: the mean itself is rounded to 2^-15 in float, so nothing can be better than that.
  const Shape shape{100, 20, 3};
  const Array values = random_array(shape.elements(), 1000 - std::sqrt(3), 1000 + std::sqrt(3), 0);
  const Tensor x = Tensor::from(values, shape).to(DType::f32, Category::inputs);
  const Tensor one = channel(1, 3, DType::f32), zero = channel(0, 3, DType::f32);
  Array rounded;
  for (int64_t i = 0; i < x.elements(); ++i) rounded.push_back(x.at(i));
  const Array expected = reference({rounded, {1, 1, 1}, {0, 0, 0}}, true, 1e-5)[0];
  const Tensor y = batch_norm(x.to(test_device(), Category::inputs), one, zero, zero.clone(Category::parameters),
                              one.clone(Category::parameters), {})
                       .on_cpu();
  for (int64_t i = 0; i < y.elements(); i += 7) CHECK(std::abs(y.at(i) - at(expected, i)) <= 0x1p-14);
}

TEST_CASE("batch_norm's running statistics move once, in forward, and not in a replay") {
  const Tensor x = Tensor::from(std::vector<double>{1, 2, 3, 6}, {4, 1}).to(test_device(), Category::inputs);
  const Tensor gamma = channel(2), beta = channel(3);
  const Tensor row = Tensor::full({1, 4}, 1, DType::f64, Category::parameters, test_device());
  x.set_requires_gradient(true);
  row.set_requires_gradient(true);
  for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
    const Tensor mean = channel(1), variance = channel(2);
    Tape tape({.checkpoint = checkpoint});
    Tensor y = batch_norm(x, gamma, beta, mean, variance, {.momentum = 0.25});
    Tensor loss = matmul(row, y);
    y = Tensor();
    tape.backward(loss);  // row's gradient is y, which is replayed unless the policy kept it
    CHECK(mean.item() == doctest::Approx(0.75 * 1 + 0.25 * 3).epsilon(1e-15));
    CHECK(variance.item() == doctest::Approx(0.75 * 2 + 0.25 * 14.0 / 3).epsilon(1e-15));  // 14 = sum of squares
  }
  const Tensor mean = channel(1), variance = channel(4);
  const Tensor y = batch_norm(x, gamma, beta, mean, variance, {.eps = 0, .training = false});
  CHECK(y.to_vector<double>() == std::vector<double>{3, 4, 5, 8});
  CHECK(mean.item() == 1);
  CHECK(variance.item() == 4);
}

TEST_CASE("batch_norm says what does not fit") {
  const Tensor x = Tensor::full({4, 3}, 1), c = Tensor::full({3}, 1), wrong = Tensor::full({2}, 1);
  CHECK_THROWS_WITH_AS(batch_norm(x, c, c, wrong, c, {}), "[batch_norm] running mean: got [2], expected [3]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(x, c, Tensor::full({3}, 1, DType::f64), c, c, {.training = false}),
                       "[batch_norm_inference] got f32 and f64, expected one dtype", DTypeError);
  CHECK_THROWS_WITH_AS(batch_norm(c, c, c, c, c, {}), "[batch_norm] got x of shape [3], expected at least [N, C]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(Tensor::full({1, 3}, 1), c, c, c, c, {}),
                       "[batch_norm] got x of shape [1, 3], expected at least 2 values for each channel", ShapeError);
  CHECK_NOTHROW(batch_norm(Tensor::full({1, 3}, 1), c, c, c, c, {.training = false}));
}

}  // namespace parabola::batch_norm_test
