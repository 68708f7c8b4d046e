#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"

#include <array>

#include "engine/core/error.h"
#include "engine/ops/conv2d/conv2d.h"
#include "tests/ops/conv_reference.h"
#include "tests/support/test.h"

namespace parabola::quadratic_conv2d_test {

using namespace test;

namespace {

struct Case {
  const char* name;
  Shape x, weight, a;
  QuadraticConvAttributes attributes = {};
  std::array<bool, 6> trained = {true, true, true, true, true, true};
  bool has_weight = true, has_bias = true;
  int differences = 8;
  double difference_tolerance = 1e-7;
  std::string_view term = "ab";  // what the second-order term has: a, b, and s for square
  bool has(char part) const { return term.find(part) != std::string_view::npos; }
};

// Value j of the patch of each output pixel, for every output of the pixel's group.
Array naive_patches(const ConvGeometry& g, const Array& x, int64_t j) {
  Array value(static_cast<size_t>(g.K * g.depth()));  // a kernel that picks it out
  for (int64_t k = 0; k < g.K; ++k) value[static_cast<size_t>(k * g.depth() + j)] = 1;
  return naive_conv2d(g, x, value, {});
}

std::vector<Array> naive(const Case& c, const std::vector<Array>& in) {
  const int64_t J = c.a[0], K = c.a[1];
  const Shape kernel = {K, c.a[2], c.a[3], c.a[4]};
  const ConvGeometry g = conv_geometry("test", c.x, kernel, c.attributes.quadratic);
  Array y(static_cast<size_t>(g.pixels() * K));
  if (c.has_weight) {
    y = naive_conv2d(conv_geometry("test", c.x, c.weight, c.attributes.linear), in[0], in[1], in[2]);
  } else if (c.has_bias) {
    for (size_t i = 0; i < y.size(); ++i) y[i] = in[2][i % static_cast<size_t>(K)];
  }
  for (int64_t j = 0; j < J && (c.has('a') || c.has('b')); ++j) {
    const int64_t size = kernel.elements();
    const auto rank = [&](const Array& all) { return Array(all.begin() + j * size, all.begin() + (j + 1) * size); };
    const Array a = c.has('a') ? naive_conv2d(g, in[0], rank(in[3]), {}) : naive_patches(g, in[0], j);
    const Array b = c.has('b') ? naive_conv2d(g, in[0], rank(in[4]), {}) : a;
    for (size_t i = 0; i < y.size(); ++i) y[i] += c.attributes.scale * a[i] * b[i];
  }
  if (c.has('s')) {
    Array squares = in[0];
    for (double& v : squares) v *= v;
    const Array square = naive_conv2d(g, squares, in[5], {});
    for (size_t i = 0; i < y.size(); ++i) y[i] += c.attributes.scale * square[i];
  }
  return {y};
}

void check(const Case& c) {
  check_op({.name = c.name,
            .op = &quadratic_conv2d_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = c.weight, .gradient = c.trained[1], .absent = !c.has_weight},
                       {.shape = {c.a[1]}, .gradient = c.trained[2], .absent = !c.has_bias},
                       {.shape = c.a, .gradient = c.trained[3], .absent = !c.has('a')},
                       {.shape = c.a, .gradient = c.trained[4], .absent = !c.has('b')},
                       {.shape = {c.a[1], c.a[2], c.a[3], c.a[4]}, .gradient = c.trained[5], .absent = !c.has('s')}},
            .attributes = c.attributes,
            .reference = [c](const std::vector<Array>& in) { return naive(c, in); },
            // A product of two sums in float: the errors of both.
            .f32_tolerance = 4e-6,
            .difference_tolerance = c.difference_tolerance,
            .max_differences = c.differences});
}

// A type of the family (engine/ops/quadratic_types.h), alone and beside a linear term, through all that a convolution
// has; then with everything but one part frozen. `ranks`: 0 for as many as a patch has values.
void check_type(std::string_view term, int64_t ranks) {
  const auto with = [&](const std::string& what, Shape x, Shape weight, Shape a, QuadraticConvAttributes attributes,
                        bool linear = false, std::array<bool, 6> trained = {1, 1, 1, 1, 1, 1}) {
    const std::string name = concat("term ", term, ": ", what);
    a = a.with(0, ranks > 0 ? ranks : a.product(2, 5));
    check({name.c_str(), x, weight, a, attributes, trained, linear, linear, 6, 1e-7, term});
  };
  const ConvAttributes same{.padding = 1};
  const Shape x = {2, 5, 4, 3}, weight = {4, 3, 3, 3}, a = {1, 4, 3, 3, 3};
  with("alone", x, weight, a, {{}, same});
  with("beside a linear term, scale 1/2", x, weight, a, {same, same, 0.5}, true);
  with("1x1", {2, 3, 4, 5}, {3, 1, 1, 5}, {1, 3, 1, 1, 5}, {}, true);
  with("stride 2", {2, 7, 8, 3}, weight, a, {{2, 1}, {2, 1}}, true);
  with("dilation 3 beside a 7x7", {1, 8, 9, 2}, {3, 7, 7, 2}, {1, 3, 3, 3, 2}, {{.padding = 3}, {1, 3, 3}}, true);
  with("groups", {2, 4, 5, 6}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {{1, 1, 1, 2}, {1, 1, 1, 2}, 0.5}, true);
  with("groups, 1x1, stride 2", {2, 4, 5, 6}, {}, {1, 4, 1, 1, 3}, {{}, {2, 0, 1, 2}});
  with("parts of an image", {2, 19, 17, 2}, {3, 2, 2, 2}, {1, 3, 2, 2, 2}, {same, same}, true);
  with("no images", {0, 4, 4, 3}, {2, 2, 2, 3}, {1, 2, 2, 2, 3}, {}, true);
  for (size_t i = 0; i < 6; ++i) {
    if (i >= 3 && term.find("abs"[i - 3]) == std::string_view::npos) continue;
    std::array<bool, 6> one = {};
    one[i] = true;
    with(concat("only input ", i, " trained"), x, weight, a, {same, same}, true, one);
  }
}

Tensor random_tensor(const Shape& shape, uint32_t item) {
  return Tensor::from(random_array(shape.elements(), -1, 1, item), shape).to(DType::f32, Category::inputs);
}
Tensor on_device(const Tensor& tensor) { return tensor.to(test_device(), Category::inputs); }

}  // namespace

TEST_CASE("quadratic_conv2d") {
  const ConvAttributes same{.padding = 1};
  check({"rank 1, one geometry", {2, 5, 6, 3}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {same, same}});
  check({"rank 2, scale 1/2", {2, 5, 4, 3}, {4, 3, 3, 3}, {2, 4, 3, 3, 3}, {same, same, 0.5}});
  check({"rank 4, 1x1", {2, 3, 4, 5}, {3, 1, 1, 5}, {4, 3, 1, 1, 5}, {{}, {}, 0.25}});
  check({"stride 2", {2, 7, 8, 3}, {4, 3, 3, 3}, {2, 4, 3, 3, 3}, {{2, 1}, {2, 1}}});
  check({"an atrous 3x3 beside a 7x7", {1, 8, 9, 2}, {3, 7, 7, 2}, {2, 3, 3, 3, 2}, {{.padding = 3}, {1, 3, 3}}});
  check({"another kernel and stride that give the same size",
         {2, 8, 8, 2},
         {3, 3, 3, 2},
         {1, 3, 2, 2, 2},
         {{2, 1}, {.stride = 2}}});
  check({"groups", {2, 4, 5, 6}, {4, 3, 3, 3}, {2, 4, 3, 3, 3}, {{1, 1, 1, 2}, {1, 1, 1, 2}, 0.5}});
  check({"grouped factors beside a full kernel", {2, 4, 5, 6}, {9, 3, 3, 6}, {1, 9, 3, 3, 2}, {same, {1, 1, 1, 3}}});
  check({"no linear term", {2, 5, 4, 3}, {4, 3, 3, 3}, {2, 4, 3, 3, 3}, {{}, same}, {1, 1, 1, 1, 1}, false, false});
  check({"bias alone", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {{}, same}, {1, 1, 1, 1, 1}, false, true});
  check({"a frozen linear term", {2, 5, 4, 3}, {4, 3, 3, 3}, {2, 4, 3, 3, 3}, {same, same}, {1, 0, 0, 1, 1}});
  check({"Winograd's algorithm for both", {2, 5, 6, 16}, {16, 3, 3, 16}, {2, 16, 3, 3, 16}, {same, same}});
  check({"for the factors alone", {2, 6, 5, 16}, {16, 1, 1, 16}, {1, 16, 3, 3, 16}, {{}, same}});
  check({"for the factors alone, in long rows", {1, 5, 138, 16}, {16, 1, 1, 16}, {1, 16, 3, 3, 16}, {{}, same}});
  check({"for the linear term alone, in long rows",
         {1, 4, 138, 16},
         {16, 3, 3, 16},
         {1, 16, 3, 3, 16},
         {same, {1, 3, 3}}});
  check({"for the linear term alone", {1, 8, 7, 16}, {16, 3, 3, 16}, {1, 16, 3, 3, 16}, {same, {1, 3, 3}}});
  check({"for stacked factors alone", {1, 4, 5, 16}, {8, 3, 3, 16}, {1, 8, 3, 3, 16}, {same, same}});
  check({"factors alone: an adapter on the first layer",
         {2, 5, 4, 3},
         {4, 3, 3, 3},
         {2, 4, 3, 3, 3},
         {same, same},
         {0, 0, 0, 1, 1}});
  check({"a frozen", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {same, same}, {0, 1, 1, 0, 1}});
  check({"all frozen but x", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {same, same}, {1, 0, 0, 0, 0}});
  check({"linear term alone trained", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 4, 3, 3, 3}, {same, same}, {0, 1, 1, 0, 0}});
  check({"parts of an image", {2, 19, 17, 2}, {3, 3, 3, 2}, {1, 3, 3, 3, 2}, {same, same}});
  check({"images that share tiles, the last one not full", {37, 4, 3, 2}, {3, 3, 3, 2}, {1, 3, 3, 3, 2}, {same, same}});
  check({"no images", {0, 4, 4, 3}, {2, 3, 3, 3}, {1, 2, 3, 3, 3}});
}

TEST_CASE("quadratic_conv2d: type 1") { check_type("b", 0); }
TEST_CASE("quadratic_conv2d: type 2") { check_type("s", 1); }
TEST_CASE("quadratic_conv2d: type 3") { check_type("a", 2); }
TEST_CASE("quadratic_conv2d: type 4, and a linear term beside it") { check_type("ab", 2); }
TEST_CASE("quadratic_conv2d: type 1&2") { check_type("bs", 0); }
TEST_CASE("quadratic_conv2d: type 2&4") { check_type("abs", 1); }
TEST_CASE("quadratic_conv2d: a square beside type 3") { check_type("as", 1); }

TEST_CASE("quadratic_conv2d: several chunks of images in backward") {
  // 4,096 pixels x 2 J K = 64 values are a quarter of a chunk: four images, then one.
  Case c{"chunks", {5, 64, 64, 1}, {2, 1, 1, 1}, {16, 2, 1, 1, 1}};
  c.trained = {1, 0, 0, 1, 0};
  c.differences = 1;
  // The loss adds up 41,000 terms: its rounding over the step of 1e-5 is what the differences show.
  c.difference_tolerance = 1e-6;
  check(c);
}

TEST_CASE("quadratic_conv2d: a form and squares in several chunks of images in backward") {
  // An image has 2,116 pixels of J K = 512 values, a chunk's most.
  Case c{"chunks", {2, 46, 46, 4}, {}, {4, 128, 1, 1, 4}, {}, {1, 1, 1, 1, 1, 1}, false, false, 1};
  c.term = "bs";
  c.difference_tolerance = 1e-5;  // the loss adds up 540,000 terms
  check(c);
}

TEST_CASE("quadratic_conv2d: compares equal to conv2d, element by element, where a factor is zero") {
  for (const ConvAttributes& attributes :
       {ConvAttributes{.padding = 1}, ConvAttributes{.stride = 2, .padding = 1}, ConvAttributes{1, 1, 1, 2}})
    for (const bool shared_patches : {true, false}) {
      const int64_t C = 14, K = 22, channels = C / attributes.groups;
      const Tensor x = on_device(random_tensor({5, 13, 12, C}, 1));
      const Tensor weight = on_device(random_tensor({K, 3, 3, channels}, 2));
      const Tensor bias = on_device(random_tensor({K}, 3)), zero = on_device(Tensor::full({2, K, 3, 3, channels}, 0.0));
      ConvAttributes quadratic = attributes;
      if (!shared_patches) quadratic.dilation = quadratic.padding = 2;
      const Tensor b = on_device(random_tensor(zero.shape(), 4));
      const std::vector<float> expected = conv2d(x, weight, bias, attributes).to_vector<float>();
      CHECK(quadratic_conv2d(x, weight, bias, zero, b, {attributes, quadratic, 0.5}).to_vector<float>() == expected);
      CHECK(quadratic_conv2d(x, weight, bias, b, zero, {attributes, quadratic, 0.5}).to_vector<float>() == expected);
    }
}

TEST_CASE("quadratic_conv2d: compares equal to conv2d where a square, or a form, is zero") {
  const ConvAttributes same{.padding = 1};
  const Tensor x = on_device(random_tensor({5, 13, 12, 4}, 1)), weight = on_device(random_tensor({22, 3, 3, 4}, 2));
  const Tensor form = on_device(Tensor::full({36, 22, 3, 3, 4}, 0.0)),
               square = on_device(Tensor::full({22, 3, 3, 4}, 0.0));
  CHECK(quadratic_conv2d(x, weight, {}, {.b = form, .square = square}, {same, same}).to_vector<float>() ==
        conv2d(x, weight, {}, same).to_vector<float>());
}

TEST_CASE("quadratic_conv2d: a 3x3 of dilation 3 equals its 7x7 filled with zeros") {
  const Tensor x = random_tensor({2, 9, 10, 3}, 1), weight = random_tensor({4, 7, 7, 3}, 2),
               bias = random_tensor({4}, 3);
  Tensor dense[2], atrous[2];
  for (int f = 0; f < 2; ++f) {
    atrous[f] = random_tensor({2, 4, 3, 3, 3}, 4 + static_cast<uint32_t>(f));
    dense[f] = Tensor::full({2, 4, 7, 7, 3}, 0.0);
    for (int64_t row = 0; row < 8; ++row)
      for (int64_t tap = 0; tap < 9; ++tap)
        for (int64_t c = 0; c < 3; ++c)
          dense[f].data<float>()[((row * 7 + tap / 3 * 3) * 7 + tap % 3 * 3) * 3 + c] =
              atrous[f].data<float>()[(row * 9 + tap) * 3 + c];
  }
  const ConvAttributes seven{.padding = 3}, three{1, 3, 3};
  const auto run = [&](const Tensor* factors, const ConvAttributes& quadratic) {
    const std::vector<float> y =
        quadratic_conv2d(x, weight, bias, factors[0], factors[1], {seven, quadratic, 0.5}).to_vector<float>();
    return Array(y.begin(), y.end());
  };
  // Other sums of the same products: float rounding.
  CHECK(relative_error(run(atrous, three), run(dense, seven)) < 1e-6);
}

TEST_CASE("quadratic_conv2d: what does not fit is named") {
  const auto ones = [](Shape shape, DType dtype = DType::f32) { return Tensor::full(shape, 1.0, dtype); };
  const Tensor x = ones({2, 5, 5, 4}), weight = ones({6, 3, 3, 4}), a = ones({2, 6, 3, 3, 4});
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, weight, {}, ones({6, 3, 3, 4}), a),
                       "[quadratic_conv2d] a: got [6, 3, 3, 4], expected [J, K, R, S, C / groups] with J at least 1",
                       ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, weight, {}, a, ones({1, 6, 3, 3, 4})),
                       "[quadratic_conv2d] b: got [1, 6, 3, 3, 4], expected [2, 6, 3, 3, 4]", ShapeError);
  CHECK_THROWS_WITH_AS(
      quadratic_conv2d(x, ones({5, 3, 3, 4}), {}, a, a),
      "[quadratic_conv2d] weight: got [5, 3, 3, 4], expected 6 output channels as the quadratic term has", ShapeError);
  CHECK_THROWS_WITH_AS(
      quadratic_conv2d(x, weight, {}, a, a, {{}, {.padding = 1}}),
      "[quadratic_conv2d] output sizes: got 3 x 3 from the linear kernel and 5 x 5 from the factors, expected "
      "the same",
      ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, {}, {}, {}),
                       "[quadratic_conv2d] term: got neither a, b nor square, expected at least one", UsageError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, {}, {}, {.b = a}),
                       "[quadratic_conv2d] b: got [2, 6, 3, 3, 4], expected [36, 6, 3, 3, 4], as a is absent",
                       ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, {}, {}, {.a = a, .square = ones({6, 1, 1, 4})}),
                       "[quadratic_conv2d] square: got [6, 1, 1, 4], expected [6, 3, 3, 4]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, {}, {}, {.square = a}),
                       "[quadratic_conv2d] square: got [2, 6, 3, 3, 4], expected [K, R, S, C / groups]", ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, weight, ones({4}), a, a), "[quadratic_conv2d] bias: got [4], expected [6]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(quadratic_conv2d(x, weight, {}, a, ones(a.shape(), DType::f64)),
                       "[quadratic_conv2d] got f32 and f64, expected one dtype", DTypeError);
}

}  // namespace parabola::quadratic_conv2d_test
