#include "engine/ops/depthwise/depthwise_conv2d.h"

#include <doctest/doctest.h>

#include "engine/ops/depthwise/plain.h"
#include "tests/ops/depthwise_support.h"

namespace parabola::depthwise_test {

using namespace test;

namespace {

struct Case {
  const char* name;
  Shape x;
  int64_t R, S;
  DepthwiseAttributes attributes = {};
  bool bias = true, train_x = true, train_weight = true, train_bias = true;
};

void check(const Case& c) {
  const int64_t C = c.x.back();
  check_op({.name = c.name,
            .op = &depthwise_conv2d_op,
            .inputs = {{.shape = c.x, .gradient = c.train_x},
                       {.shape = {c.R, c.S, C}, .gradient = c.train_weight},
                       {.shape = {C}, .gradient = c.train_bias, .absent = !c.bias}},
            .attributes = c.attributes,
            .reference =
                [c](const std::vector<Array>& in) {
                  return std::vector<Array>{naive_depthwise(c.x, c.R, c.S, c.attributes, in[0], in[1], in[2])};
                },
            .max_differences = 9});
}

}  // namespace

TEST_CASE("depthwise_conv2d") {
  // Channels around the 16 floats and 8 doubles of a vector; rows of pixels that fill groups of 8 and rows that do not.
  check({"3x3", {2, 5, 7, 16}, 3, 3, {1, 1, 1}});
  check({"5x5", {1, 7, 8, 19}, 5, 5, {1, 2, 1}});
  check({"7x7", {2, 9, 16, 5}, 7, 7, {1, 3, 1}});
  check({"7x7 on rows that do not fill a group", {3, 4, 4, 33}, 7, 7, {1, 3, 1}});
  check({"7x7 on an image smaller than the kernel", {2, 2, 3, 1}, 7, 7, {1, 3, 1}});
  check({"3x3, dilation 3", {1, 8, 9, 19}, 3, 3, {1, 3, 3}});
  check({"3x3, dilation 2", {1, 6, 15, 16}, 3, 3, {1, 2, 2}});
  check({"5x5, dilation 3", {1, 9, 8, 5}, 5, 5, {1, 6, 3}});
  check({"7x7, dilation 3", {1, 5, 7, 1}, 7, 7, {1, 9, 3}});
  check({"3x3, stride 2", {2, 7, 8, 33}, 3, 3, {2, 1, 1}});
  check({"5x5, stride 2", {1, 8, 7, 5}, 5, 5, {2, 2, 1}});
  check({"7x7, stride 2", {2, 9, 7, 16}, 7, 7, {2, 3, 1}});
  check({"3x3, stride 2, dilation 3", {1, 11, 9, 1}, 3, 3, {2, 3, 3}});
  check({"2x5, stride 3, dilation 2, no padding", {2, 7, 13, 3}, 2, 5, {3, 0, 2}});
  check({"1x1, stride 4: most pixels are read by nobody", {1, 6, 7, 2}, 1, 1, {4, 0, 1}});
  check({"more padding than the kernel reaches", {1, 3, 8, 2}, 3, 3, {1, 4, 1}});
  check({"more padding than the kernel reaches, on whole vectors", {1, 3, 8, 16}, 3, 3, {1, 4, 1}});
  check({"no padding, on whole vectors", {1, 8, 9, 16}, 3, 3, {1, 0, 3}});
  check({"row by row: an image of fewer rows than the dilation", {2, 2, 8, 32}, 3, 3, {1, 3, 3}});
  check({"row by row: no column with all taps", {2, 4, 6, 16}, 3, 3, {1, 3, 3}});
  check({"row by row: one row", {3, 1, 2, 16}, 3, 3, {1, 1, 1}});
  check({"by tiles: a row too short for two edges", {2, 4, 5, 16}, 3, 3, {1, 3, 3}});
  check({"several blocks of several images in a task", {260, 1, 2, 33}, 3, 3, {1, 1, 1}});
  check({"a kernel that leaves one pixel", {2, 7, 7, 5}, 7, 7});
  check({"taps so far apart that no tile of them fits into a device's shared memory", {1, 3, 4, 2}, 3, 3, {1, 60, 60}});
}

TEST_CASE("depthwise_conv2d: absent and frozen inputs") {
  check({"no bias", {2, 5, 8, 3}, 3, 3, {1, 1, 1}, false});
  check({"frozen x", {2, 5, 8, 3}, 7, 7, {1, 3, 1}, true, false});
  check({"frozen weight", {2, 5, 8, 3}, 7, 7, {1, 3, 1}, true, true, false});
  check({"frozen weight and bias", {2, 5, 8, 3}, 7, 7, {1, 3, 1}, true, true, false, false});
  check({"bias alone", {2, 5, 8, 3}, 7, 7, {1, 3, 1}, true, false, false});
  check({"frozen x, whole vectors", {2, 5, 8, 16}, 3, 3, {1, 3, 3}, true, false});
  check({"frozen weight, whole vectors", {2, 5, 8, 16}, 3, 3, {1, 1, 1}, true, true, false});
  check({"bias alone, whole vectors", {2, 5, 8, 16}, 3, 3, {1, 1, 1}, true, false, false});
  check({"no bias, whole vectors", {2, 5, 8, 16}, 3, 3, {1, 1, 1}, false});
  check({"no columns but the padding", {1, 4, 0, 16}, 3, 3, {1, 2, 1}});
  check({"no image", {0, 5, 8, 3}, 3, 3, {1, 1, 1}});
}

// Sums are those of the plain loops, in their order: no tolerance for a result, rounding for gradients, whose sums are
// cut by image. 131 images are cut into groups of two and one of one.
TEST_CASE_TEMPLATE("depthwise_conv2d and the plain kernel", T, float, double) {
  struct Setting {
    Shape x;
    int64_t R;
    DepthwiseAttributes attributes;
  };
  for (const Setting& setting : {Setting{{131, 4, 5, 3}, 3, {1, 1, 1}}, Setting{{5, 24, 24, 17}, 7, {1, 3, 1}},
                                 Setting{{2, 17, 40, 40}, 5, {2, 2, 1}}, Setting{{3, 24, 24, 48}, 3, {1, 3, 3}},
                                 Setting{{2, 3, 300, 37}, 3, {1, 1, 1}}, Setting{{3, 7, 8, 528}, 3, {1, 2, 2}},
                                 Setting{{2, 3, 300, 32}, 3, {1, 1, 1}}}) {
    const Shape& x_shape = setting.x;
    const int64_t R = setting.R;
    CAPTURE(x_shape);
    const ConvGeometry g = depthwise_geometry(x_shape, R, R, setting.attributes);
    const std::vector<T> x = random_values<T>(x_shape, 0), weight = random_values<T>({R, R, g.C}, 1),
                         dy = random_values<T>(g.output_shape(), 2);
    std::vector<T> y(dy.size()), dx(x.size()), dweight(weight.size());
    depthwise::plain_forward(g, x.data(), weight.data(), y.data());
    depthwise::plain_input_gradient(g, dy.data(), weight.data(), dx.data());
    depthwise::plain_weight_gradient(g, x.data(), dy.data(), dweight.data());

    const Tensor input = leaf(x, x_shape), filter = leaf(weight, {R, R, g.C});
    Tape tape;
    const Tensor output = depthwise_conv2d(input, filter, {}, setting.attributes);
    CHECK(output.to_vector<T>() == y);
    backward_from(tape, output, dy);
    const double rounding = sizeof(T) == 4 ? 1e-6 : 1e-15;
    CHECK(relative_error(as_array(input.gradient()), Array(dx.begin(), dx.end())) <= rounding);
    CHECK(relative_error(as_array(filter.gradient()), Array(dweight.begin(), dweight.end())) <= rounding);
  }
}

TEST_CASE("depthwise_conv2d: errors") {
  const auto zeros = [](const Shape& shape, DType dtype = DType::f32) { return Tensor::full(shape, 0, dtype); };
  const Tensor x = zeros({1, 4, 4, 6});
  CHECK_THROWS_WITH_AS(depthwise_conv2d(zeros({4, 4, 6}), zeros({3, 3, 6})),
                       "[depthwise_conv2d] input: got [4, 4, 6], expected [N, H, W, C]", ShapeError);
  CHECK_THROWS_WITH_AS(depthwise_conv2d(x, zeros({6, 3, 3, 1})),
                       "[depthwise_conv2d] weight: got [6, 3, 3, 1], expected [R, S, C]", ShapeError);
  CHECK_THROWS_WITH_AS(depthwise_conv2d(x, zeros({3, 3, 5})),
                       "[depthwise_conv2d] weight: got [3, 3, 5] for an input of 6 channels, expected [3, 3, 6]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(depthwise_conv2d(x, zeros({3, 3, 6}), zeros({5})),
                       "[depthwise_conv2d] bias: got [5], expected [6]", ShapeError);
  CHECK_THROWS_AS(depthwise_conv2d(x, zeros({5, 5, 6})), ShapeError);
  CHECK_THROWS_AS(depthwise_conv2d(x, zeros({3, 3, 6}), {}, {.stride = 0}), UsageError);
  CHECK_THROWS_AS(depthwise_conv2d(x, zeros({3, 3, 6}, DType::f64)), DTypeError);
}

}  // namespace parabola::depthwise_test
