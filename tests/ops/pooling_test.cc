#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "engine/core/error.h"
#include "engine/ops/pooling/avg_pool2d.h"
#include "engine/ops/pooling/max_pool2d.h"
#include "engine/ops/reduce.h"
#include "engine/tape/tape.h"
#include "tests/ops/golden.h"
#include "tests/ops/harness.h"

namespace parabola::pooling_test {

using namespace test;

namespace {

// How many windows PyTorch fits along an axis.
int64_t outputs_of(int64_t size, const PoolAttributes& a) {
  const int64_t stride = a.stride ? a.stride : a.kernel, padded = size + 2 * a.padding;
  int64_t outputs = 0;
  while (outputs * stride + a.kernel <= padded) ++outputs;
  // One more may hang over the end, if it begins before the padding behind the image.
  const bool uncovered = (outputs - 1) * stride + a.kernel < padded;
  return outputs + (a.ceil_mode && uncovered && outputs * stride < size + a.padding ? 1 : 0);
}

// Goes through an image grown by -inf, pixel by pixel; kind: 'm' for the maximum, 'a' for the mean.
Array reference(const Array& x, const Shape& shape, const PoolAttributes& a, char kind) {
  const int64_t stride = a.stride ? a.stride : a.kernel, rows = outputs_of(shape[1], a),
                columns = outputs_of(shape[2], a);
  Array y;
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t c = 0; c < shape[3]; ++c) {
          double largest = -INFINITY, sum = 0;
          int inside = 0, padded = 0;
          for (int64_t h = i * stride - a.padding; h < i * stride - a.padding + a.kernel; ++h)
            for (int64_t w = j * stride - a.padding; w < j * stride - a.padding + a.kernel; ++w) {
              if (h < shape[1] + a.padding && w < shape[2] + a.padding) ++padded;
              if (h < 0 || w < 0 || h >= shape[1] || w >= shape[2]) continue;
              const double value = x[static_cast<size_t>(((n * shape[1] + h) * shape[2] + w) * shape[3] + c)];
              largest = std::max(largest, value);
              sum += value;
              ++inside;
            }
          y.push_back(kind == 'm' ? largest : sum / (a.count_include_pad ? padded : inside));
        }
  return y;
}

void check_pool(const char* name, const Shape& shape, const PoolAttributes& attributes) {
  const auto check = [&](const OpDef* op, char kind) {
    check_op({.name = name,
              .op = op,
              .inputs = {{.shape = shape}},
              .attributes = attributes,
              .reference =
                  [&](const std::vector<Array>& in) {
                    return std::vector<Array>{reference(in[0], shape, attributes, kind)};
                  },
              .max_differences = 30});
  };
  check(&max_pool2d_op, 'm');
  check(&avg_pool2d_op, 'a');
}

Array adaptive_reference(const Array& x, const Shape& shape, int64_t rows, int64_t columns) {
  Array y;
  const auto begin = [](int64_t i, int64_t size, int64_t outputs) {
    return static_cast<int64_t>(std::floor(static_cast<double>(i * size) / static_cast<double>(outputs)));
  };
  const auto end = [](int64_t i, int64_t size, int64_t outputs) {
    return static_cast<int64_t>(std::ceil(static_cast<double>((i + 1) * size) / static_cast<double>(outputs)));
  };
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t c = 0; c < shape[3]; ++c) {
          double sum = 0;
          int count = 0;
          for (int64_t h = begin(i, shape[1], rows); h < end(i, shape[1], rows); ++h)
            for (int64_t w = begin(j, shape[2], columns); w < end(j, shape[2], columns); ++w, ++count)
              sum += x[static_cast<size_t>(((n * shape[1] + h) * shape[2] + w) * shape[3] + c)];
          y.push_back(sum / count);
        }
  return y;
}

void check_adaptive(const char* name, const Shape& shape, int64_t rows, int64_t columns) {
  check_op({.name = name,
            .op = &adaptive_avg_pool2d_op,
            .inputs = {{.shape = shape}},
            .attributes = AdaptivePoolAttributes{rows, columns},
            .reference =
                [&](const std::vector<Array>& in) {
                  return std::vector<Array>{adaptive_reference(in[0], shape, rows, columns)};
                },
            .max_differences = 30});
}

}  // namespace

TEST_CASE("max_pool2d and avg_pool2d") {
  check_pool("windows that touch", {2, 4, 6, 3}, {.kernel = 2});
  check_pool("windows that overlap, padding", {2, 7, 5, 3}, {.kernel = 3, .stride = 2, .padding = 1});
  check_pool("stride 1", {1, 5, 4, 2}, {.kernel = 3, .stride = 1, .padding = 1, .count_include_pad = false});
  check_pool("stride over kernel", {2, 9, 7, 1}, {.kernel = 2, .stride = 3});
  check_pool("kernel over image", {1, 3, 3, 2}, {.kernel = 5, .stride = 1, .padding = 2});
  check_pool("one pixel", {3, 1, 1, 5}, {.kernel = 1});
  check_pool("one pixel in padding", {1, 1, 1, 1}, {.kernel = 2, .stride = 2, .padding = 1});
  check_pool("no images", {0, 4, 4, 2}, {.kernel = 2});
  check_pool("rows and columns left over", {1, 5, 7, 2}, {.kernel = 2});
  check_pool("up to the end", {1, 5, 8, 2}, {.kernel = 2, .ceil_mode = true});
  check_pool("up to the end, padded", {1, 6, 7, 2},
             {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true, .count_include_pad = false});
  check_pool("up to the end, where a window would begin in the padding", {1, 4, 5, 3},
             {.kernel = 2, .stride = 2, .padding = 1, .ceil_mode = true});
  check_pool("up to the end, padding counts", {2, 4, 5, 1},
             {.kernel = 4, .stride = 3, .padding = 2, .ceil_mode = true});
  check_pool("more than one task", {2, 17, 19, 33}, {.kernel = 3, .stride = 2});
}

TEST_CASE("adaptive_avg_pool2d") {
  check_adaptive("whole windows", {2, 6, 4, 3}, 3, 2);
  check_adaptive("windows that overlap", {2, 7, 5, 3}, 3, 4);
  check_adaptive("more outputs than pixels", {1, 3, 2, 2}, 5, 3);
  check_adaptive("one output", {2, 5, 3, 4}, 1, 1);
  check_adaptive("one pixel", {1, 1, 1, 1}, 1, 1);
  check_adaptive("as it is", {1, 4, 3, 2}, 4, 3);
  check_adaptive("more than one task", {2, 17, 19, 33}, 7, 5);
}

TEST_CASE("max_pool2d: the first of equal values gets the gradient; NaN and -inf come through") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor x =
      Tensor::from(std::vector<float>{2, 2, 1, nan, nan, 9, -inf, -inf, 2, 2, 3, 4, 9, 9, -inf, -inf}, {1, 2, 8, 1});
  x.set_requires_gradient(true);
  Tape tape;
  const Tensor y = max_pool2d(x, {.kernel = 2});
  CHECK(y.at(0) == 2);
  CHECK(std::isnan(y.at(1)));
  CHECK(std::isnan(y.at(2)));
  CHECK(y.at(3) == -inf);
  tape.backward(sum(y));
  CHECK(x.gradient().to_vector<float>() == std::vector<float>{1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("golden: pooling") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const auto check = [&](const char* name, auto pool) {
      const GoldenCase golden(name, dtype, true);
      const Tensor x = golden.leaf("input");
      Tape tape;
      golden.check_gradients(pool(x), {{"input", x}});
    };
    check("max_pool2d", [](const Tensor& x) { return max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}); });
    check("max_pool2d_ceil", [](const Tensor& x) { return max_pool2d(x, {.kernel = 2, .ceil_mode = true}); });
    check("avg_pool2d", [](const Tensor& x) { return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}); });
    check("avg_pool2d_ceil",
          [](const Tensor& x) { return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}); });
    check("avg_pool2d_ceil_no_padding", [](const Tensor& x) {
      return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true, .count_include_pad = false});
    });
    check("adaptive_avg_pool2d", [](const Tensor& x) { return adaptive_avg_pool2d(x, 3, 4); });
    check("adaptive_avg_pool2d_more", [](const Tensor& x) { return adaptive_avg_pool2d(x, 9, 1); });
  }
}

TEST_CASE("pooling says what does not fit") {
  const Tensor x = Tensor::full({1, 2, 3, 1}, 1);
  CHECK_THROWS_WITH_AS(max_pool2d(Tensor::full({2, 3}, 1)),
                       "[max_pool2d] input: got [2, 3], expected [N, H, W, C] with at least one pixel", ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(x, {.kernel = 3}),
                       "[max_pool2d] kernel: got 3 x 3 on [1, 2, 3, 1] with padding 0, expected an image not smaller "
                       "than the kernel",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      avg_pool2d(x, {.kernel = 2, .stride = 1, .padding = 2}),
      "[avg_pool2d] got kernel 2, stride 1 and padding 2, expected a kernel of at least 1, no negative "
      "stride and a padding of at most half the kernel",
      UsageError);
  CHECK_THROWS_WITH_AS(max_pool2d(x, {.kernel = 17, .padding = 8}),
                       "[max_pool2d] got a kernel of 17, expected at most 16: what is kept is a byte", UsageError);
  CHECK_THROWS_WITH_AS(adaptive_avg_pool2d(x, 0, 2), "[adaptive_avg_pool2d] got 0 x 2 outputs, expected at least one",
                       UsageError);
}

}  // namespace parabola::pooling_test
