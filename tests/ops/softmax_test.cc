#include "engine/ops/softmax.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::softmax_test {

using namespace test;

namespace {

void check_softmax(const std::string& name, const Shape& shape) {
  for (const bool is_log : {false, true}) {
    check_op({.name = name,
              .op = is_log ? &log_softmax_op : &softmax_op,
              .inputs = {{.shape = shape, .low = -5, .high = 5}},
              .reference =
                  [&](const std::vector<Array>& in) {
                    Array y;
                    const size_t columns = static_cast<size_t>(shape.back());
                    for (size_t row = 0; row < in[0].size() / columns; ++row) {
                      double sum = 0;
                      for (size_t k = 0; k < columns; ++k) sum += std::exp(in[0][row * columns + k]);
                      for (size_t k = 0; k < columns; ++k) {
                        const double p = std::exp(in[0][row * columns + k]) / sum;
                        y.push_back(is_log ? std::log(p) : p);
                      }
                    }
                    return std::vector<Array>{y};
                  },
              .max_differences = 20});
  }
}

}  // namespace

TEST_CASE("softmax, log_softmax") {
  check_softmax("a batch", {5, 7});
  check_softmax("one class", {3, 1});
  check_softmax("one row, more classes than lanes", {37});
  check_softmax("more than one task", {13, 3, 1001});
}

TEST_CASE("golden: log_softmax") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const GoldenCase golden("log_softmax", dtype);
    const Tensor x = golden.leaf("input");
    Tape tape;
    golden.check_gradients(log_softmax(x), {{"input", x}});
  }
}

TEST_CASE("softmax of large values") {
  const Tensor y = softmax(Tensor::from(std::vector<float>{1000, 1000, -1000}, {3}));
  CHECK(y.to_vector<float>() == std::vector<float>{0.5, 0.5, 0});
  const Tensor z = log_softmax(Tensor::from(std::vector<float>{1000, -1000, 0}, {3}));
  CHECK(z.to_vector<float>() == std::vector<float>{0, -2000, -1000});
}

TEST_CASE("softmax says what does not fit") {
  CHECK_THROWS_WITH_AS(softmax(Tensor::full({}, 1)), "[softmax] got x of shape [], expected a last axis", ShapeError);
  CHECK_THROWS_WITH_AS(log_softmax(Tensor::full({}, 1)), "[log_softmax] got x of shape [], expected a last axis",
                       ShapeError);
}

}  // namespace parabola::softmax_test
