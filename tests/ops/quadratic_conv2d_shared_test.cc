#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"

#include <array>

#include "engine/ops/conv2d/conv2d.h"
#include "tests/ops/conv_reference.h"
#include "tests/support/test.h"

namespace parabola::quadratic_conv2d_shared_test {

using namespace test;

namespace {

struct Case {
  const char* name;
  Shape x, weight, u;
  QuadraticConvAttributes attributes = {};
  std::array<bool, 6> trained = {true, true, true, true, true, true};
  bool has_weight = true, has_bias = true;
  int differences = 8;
  double difference_tolerance = 1e-7;
};

std::vector<Array> naive(const Case& c, const std::vector<Array>& in) {
  ConvAttributes ungrouped = c.attributes.quadratic;
  ungrouped.groups = 1;
  const ConvGeometry g = conv_geometry("test", c.x, c.u, ungrouped);
  const size_t K = static_cast<size_t>(c.weight[0]), Q = static_cast<size_t>(c.u[0]);
  const Array u = naive_conv2d(g, in[0], in[3], {}), v = naive_conv2d(g, in[0], in[4], {});
  Array y(static_cast<size_t>(g.pixels()) * K);
  if (c.has_weight)
    y = naive_conv2d(conv_geometry("test", c.x, c.weight, c.attributes.linear), in[0], in[1], in[2]);
  else if (c.has_bias)
    for (size_t i = 0; i < y.size(); ++i) y[i] = in[2][i % K];
  for (size_t pixel = 0; pixel < y.size() / K; ++pixel)
    for (size_t k = 0; k < K; ++k)
      for (size_t q = 0; q < Q; ++q)
        y[pixel * K + k] += c.attributes.scale * in[5][k * Q + q] * u[pixel * Q + q] * v[pixel * Q + q];
  return {y};
}

void check(const Case& c) {
  const int64_t K = c.weight[0];
  check_op({.name = c.name,
            .op = &quadratic_conv2d_shared_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = c.weight, .gradient = c.trained[1], .absent = !c.has_weight},
                       {.shape = {K}, .gradient = c.trained[2], .absent = !c.has_bias},
                       {.shape = c.u, .gradient = c.trained[3]},
                       {.shape = c.u, .gradient = c.trained[4]},
                       {.shape = {K, c.u[0]}, .gradient = c.trained[5]}},
            .attributes = c.attributes,
            .reference = [c](const std::vector<Array>& in) { return naive(c, in); },
            // A sum of products of two sums in float: the errors of all.
            .f32_tolerance = 4e-6,
            .difference_tolerance = c.difference_tolerance,
            .max_differences = c.differences});
}

Tensor random_tensor(const Shape& shape, uint32_t item) {
  return Tensor::from(random_array(shape.elements(), -1, 1, item), shape)
      .to(DType::f32, Category::inputs)
      .to(test_device(), Category::inputs);
}

}  // namespace

TEST_CASE("quadratic_conv2d_shared") {
  const ConvAttributes same{.padding = 1};
  check({"four products, one geometry", {2, 5, 6, 3}, {5, 3, 3, 3}, {4, 3, 3, 3}, {same, same}});
  check({"one product, scale 1/2", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 3, 3, 3}, {same, same, 0.5}});
  check({"stride 2, products of an atrous kernel", {2, 9, 8, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {{2, 1}, {2, 2, 2}}});
  check({"grouped linear kernel", {2, 4, 5, 6}, {4, 3, 3, 3}, {3, 3, 3, 6}, {{1, 1, 1, 2}, {1, 1, 1, 2}}});
  check({"no linear term", {2, 5, 4, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {{}, same}, {1, 1, 1, 1, 1, 1}, false, false});
  check({"a frozen linear term", {2, 5, 4, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {same, same}, {1, 0, 0, 1, 1, 1}});
  check({"an adapter on the first layer", {2, 5, 4, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {same, same}, {0, 0, 0, 1, 1, 1}});
  check({"p alone trained", {2, 5, 4, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {same, same}, {0, 0, 0, 0, 0, 1}});
  check({"p frozen", {2, 5, 4, 3}, {4, 3, 3, 3}, {3, 3, 3, 3}, {same, same}, {1, 0, 0, 1, 0, 0}});
  check({"parts of an image", {2, 19, 17, 2}, {3, 3, 3, 2}, {2, 3, 3, 2}, {same, same}});
  check({"images that share tiles, the last one not full", {37, 4, 3, 2}, {3, 3, 3, 2}, {2, 3, 3, 2}, {same, same}});
  check({"no images", {0, 4, 4, 3}, {2, 3, 3, 3}, {3, 3, 3, 3}});
}

TEST_CASE("quadratic_conv2d_shared: several chunks of images in backward") {
  // 4,096 pixels x 2 Q = 64 values are a quarter of a chunk: four images, then one. The loss adds up 41,000 terms: its
  // rounding over the step of 1e-5 is what the differences show.
  check({"chunks", {5, 64, 64, 1}, {2, 1, 1, 1}, {32, 1, 1, 1}, {}, {1, 0, 0, 1, 0, 1}, true, true, 1, 1e-6});
}

TEST_CASE("quadratic_conv2d_shared: compares equal to conv2d, element by element, where p is zero") {
  for (const ConvAttributes& attributes :
       {ConvAttributes{.padding = 1}, ConvAttributes{.stride = 2, .padding = 1}, ConvAttributes{1, 1, 1, 2}}) {
    const int64_t C = 14, K = 22, Q = 4;
    const Tensor x = random_tensor({5, 13, 12, C}, 1), weight = random_tensor({K, 3, 3, C / attributes.groups}, 2);
    const Tensor bias = random_tensor({K}, 3), u = random_tensor({Q, 3, 3, C}, 4), v = random_tensor({Q, 3, 3, C}, 5);
    const Tensor p = Tensor::full({K, Q}, 0.0).to(test_device(), Category::inputs);
    const std::vector<float> expected = conv2d(x, weight, bias, attributes).to_vector<float>();
    const Tensor y = quadratic_conv2d_shared(x, weight, bias, u, v, p, {attributes, attributes});
    CHECK(y.to_vector<float>() == expected);
  }
}

TEST_CASE("quadratic_conv2d_shared: what does not fit is named") {
  const auto ones = [](Shape shape, DType dtype = DType::f32) { return Tensor::full(shape, 1.0, dtype); };
  const Tensor x = ones({2, 5, 5, 4}), weight = ones({6, 3, 3, 4}), u = ones({2, 3, 3, 4}), p = ones({6, 2});
  CHECK_THROWS_WITH_AS(quadratic_conv2d_shared(x, weight, {}, ones({3, 3, 4}), u, p),
                       "[quadratic_conv2d_shared] u: got [3, 3, 4], expected [Q, R, S, C]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d_shared(x, weight, {}, u, ones({3, 3, 3, 4}), p),
                       "[quadratic_conv2d_shared] v: got [3, 3, 3, 4], expected [2, 3, 3, 4]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d_shared(x, weight, {}, u, u, ones({6, 3})),
                       "[quadratic_conv2d_shared] p: got [6, 3] for u of shape [2, 3, 3, 4], expected [K, 2]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      quadratic_conv2d_shared(x, weight, {}, u, u, ones({5, 2})),
      "[quadratic_conv2d_shared] weight: got [6, 3, 3, 4], expected 5 output channels as the quadratic "
      "term has",
      ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d_shared(x, weight, ones({4}), u, u, p),
                       "[quadratic_conv2d_shared] bias: got [4], expected [6]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d_shared(x, weight, {}, u, u, ones(p.shape(), DType::f64)),
                       "[quadratic_conv2d_shared] got f32 and f64, expected one dtype", DTypeError);
}

}  // namespace parabola::quadratic_conv2d_shared_test
