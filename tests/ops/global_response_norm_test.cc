#include "engine/ops/global_response_norm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::global_response_norm_test {

using namespace test;

namespace {

Array reference(const std::vector<Array>& in, const Shape& shape, double eps) {
  const size_t images = static_cast<size_t>(shape[0]), pixels = static_cast<size_t>(shape[1] * shape[2]),
               channels = static_cast<size_t>(shape[3]);
  Array y(in[0].size());
  for (size_t n = 0; n < images; ++n) {
    Array norms(channels);
    double mean = 0;
    for (size_t c = 0; c < channels; ++c) {
      for (size_t p = 0; p < pixels; ++p) norms[c] += std::pow(in[0][(n * pixels + p) * channels + c], 2);
      norms[c] = std::sqrt(norms[c]);
      mean += norms[c] / static_cast<double>(channels);
    }
    for (size_t p = 0; p < pixels; ++p)
      for (size_t c = 0; c < channels; ++c) {
        const size_t i = (n * pixels + p) * channels + c;
        y[i] = in[1][c] * (in[0][i] * (norms[c] / (mean + eps))) + in[2][c] + in[0][i];
      }
  }
  return y;
}

void check_norm(const char* name, const Shape& shape, bool x_wanted = true, bool gamma_wanted = true,
                bool beta_wanted = true) {
  check_op({.name = name,
            .op = &global_response_norm_op,
            .inputs = {{.shape = shape, .gradient = x_wanted},
                       {.shape = {shape.back()}, .gradient = gamma_wanted},
                       {.shape = {shape.back()}, .gradient = beta_wanted}},
            .attributes = GlobalResponseNormAttributes{1e-3},
            .reference = [&](const std::vector<Array>& in) { return std::vector<Array>{reference(in, shape, 1e-3)}; },
            .max_differences = 20});
}

}  // namespace

TEST_CASE("global_response_norm") {
  check_norm("an image batch", {2, 3, 5, 7});
  check_norm("one channel", {2, 7, 6, 1});
  check_norm("one pixel", {3, 1, 1, 5});
  check_norm("no images", {0, 2, 2, 3});
  check_norm("more than one block and task", {2, 17, 19, 33});
  check_norm("x frozen", {2, 3, 2, 5}, false, true, true);
  check_norm("gamma and beta frozen", {2, 3, 2, 5}, true, false, false);
  check_norm("gamma only", {2, 3, 2, 5}, false, true, false);
  check_norm("beta only", {2, 3, 2, 5}, false, false, true);
}

TEST_CASE("golden: global_response_norm") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    // A channel of one image is zero throughout, where PyTorch's gradient of its norm is zero.
    const GoldenCase golden("global_response_norm", dtype);
    const Tensor x = golden.leaf("input"), gamma = golden.leaf("gamma"), beta = golden.leaf("beta");
    Tape tape;
    golden.check_gradients(global_response_norm(x, gamma, beta, 1e-6),
                           {{"input", x}, {"gamma", gamma}, {"beta", beta}});
  }
}

TEST_CASE("global_response_norm says what does not fit") {
  const Tensor x = Tensor::full({1, 2, 2, 3}, 1), c = Tensor::full({3}, 1), wrong = Tensor::full({2}, 1);
  CHECK_THROWS_WITH_AS(global_response_norm(c, c, c),
                       "[global_response_norm] got x of shape [3], expected [N, H, W, C]", ShapeError);
  CHECK_THROWS_WITH_AS(global_response_norm(x, wrong, c), "[global_response_norm] gamma: got [2], expected [3]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(global_response_norm(x, c, Tensor::full({3}, 1, DType::f64)),
                       "[global_response_norm] got f32 and f64, expected one dtype", DTypeError);
}

}  // namespace parabola::global_response_norm_test
