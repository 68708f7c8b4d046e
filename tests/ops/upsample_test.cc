#include "engine/ops/upsample.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/core/error.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::upsample_test {

using namespace test;

namespace {

// x at a place between pixels of one axis, held at the outermost ones.
double between(double place, int64_t size, const std::function<double(int64_t)>& pixel) {
  place = std::clamp(place, 0.0, static_cast<double>(size - 1));
  const double below = std::floor(place), share = place - below;
  const auto first = static_cast<int64_t>(below);
  return (1 - share) * pixel(first) + (share > 0 ? share * pixel(first + 1) : 0);
}

Array reference(const Array& x, const Shape& shape, const UpsampleAttributes& a) {
  Array y;
  const auto place = [&](int64_t i, int64_t size, int64_t outputs) {
    const double ratio = static_cast<double>(size) / static_cast<double>(outputs), at = static_cast<double>(i);
    // The nudge makes up for the ratio's rounding, where i size / outputs is a whole number.
    return a.mode == Interpolation::nearest ? std::floor(at * ratio + 1e-9) : (at + 0.5) * ratio - 0.5;
  };
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t i = 0; i < a.rows; ++i)
      for (int64_t j = 0; j < a.columns; ++j)
        for (int64_t c = 0; c < shape[3]; ++c)
          y.push_back(between(place(i, shape[1], a.rows), shape[1], [&](int64_t h) {
            return between(place(j, shape[2], a.columns), shape[2], [&](int64_t w) {
              return x[static_cast<size_t>(((n * shape[1] + h) * shape[2] + w) * shape[3] + c)];
            });
          }));
  return y;
}

void check_upsample(const char* name, const Shape& shape, int64_t rows, int64_t columns) {
  for (const Interpolation mode : {Interpolation::nearest, Interpolation::bilinear}) {
    const UpsampleAttributes attributes{rows, columns, mode};
    check_op({.name = name,
              .op = &upsample_op,
              .inputs = {{.shape = shape}},
              .attributes = attributes,
              .reference =
                  [&](const std::vector<Array>& in) { return std::vector<Array>{reference(in[0], shape, attributes)}; },
              .max_differences = 30});
  }
}

}  // namespace

TEST_CASE("upsample") {
  check_upsample("twice the size", {2, 3, 4, 3}, 6, 8);
  check_upsample("odd sizes", {2, 3, 5, 2}, 7, 11);
  check_upsample("as it is", {1, 4, 3, 2}, 4, 3);
  check_upsample("one pixel", {2, 1, 1, 5}, 3, 4);
  check_upsample("to one pixel", {1, 5, 4, 3}, 1, 1);
  check_upsample("smaller", {1, 7, 9, 2}, 3, 4);
  check_upsample("much smaller, and larger", {1, 13, 2, 1}, 3, 9);
  check_upsample("no images", {0, 2, 2, 3}, 4, 4);
  check_upsample("more than one task", {2, 9, 7, 33}, 17, 15);
}

TEST_CASE("golden: upsample") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    for (const Interpolation mode : {Interpolation::nearest, Interpolation::bilinear}) {
      for (const bool larger : {true, false}) {
        const std::string name = mode == Interpolation::nearest ? "upsample_nearest" : "upsample_bilinear";
        const GoldenCase golden(larger ? name : name + "_smaller", dtype, true);
        const Tensor x = golden.leaf("input");
        Tape tape;
        golden.check_gradients(larger ? upsample(x, 8, 11, mode) : upsample(x, 2, 3, mode), {{"input", x}});
      }
    }
  }
}

TEST_CASE("upsample says what does not fit") {
  CHECK_THROWS_WITH_AS(upsample(Tensor::full({2, 3}, 1), 4, 4),
                       "[upsample] input: got [2, 3], expected [N, H, W, C] with at least one pixel", ShapeError);
  CHECK_THROWS_WITH_AS(upsample(Tensor::full({1, 2, 2, 1}, 1), 4, 0),
                       "[upsample] got 4 x 0 outputs, expected at least one", UsageError);
}

}  // namespace parabola::upsample_test
