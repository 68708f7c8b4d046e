#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"

#include <doctest/doctest.h>

#include <array>

#include "engine/core/thread_pool.h"
#include "tests/ops/depthwise_support.h"
#include "tests/support/test.h"

namespace parabola::quadratic_depthwise_test {

using namespace test;

namespace {

using Window = DepthwiseAttributes;

QuadraticDepthwiseAttributes join(const Window& linear, const Window& quadratic, double scale) {
  return {linear.stride,      linear.padding, linear.dilation, quadratic.stride, quadratic.padding,
          quadratic.dilation, scale};
}

struct Case {
  const char* name;
  Shape x;
  int64_t K, Ka, J;  // sides of the linear kernel (0: absent) and of the factors; rank
  Window linear, quadratic;
  double scale = 1;
  bool bias = true;
  std::array<bool, 5> trained = {true, true, true, true, true};  // x, weight, bias, a, b
};

std::vector<Array> naive(const Case& c, const std::vector<Array>& in) {
  const int64_t C = c.x.back(), filter = c.Ka * c.Ka * C;
  Array y(static_cast<size_t>(depthwise_geometry(c.x, c.Ka, c.Ka, c.quadratic).output_shape().elements()));
  if (c.K > 0) y = naive_depthwise(c.x, c.K, c.K, c.linear, in[0], in[1], {});
  for (size_t i = 0; i < y.size() && c.bias; ++i) y[i] += in[2][i % static_cast<size_t>(C)];
  for (int64_t j = 0; j < c.J; ++j) {
    const auto branch = [&](const Array& all) {
      const Array one(all.begin() + j * filter, all.begin() + (j + 1) * filter);
      return naive_depthwise(c.x, c.Ka, c.Ka, c.quadratic, in[0], one, {});
    };
    const Array a = branch(in[3]), b = branch(in[4]);
    for (size_t i = 0; i < y.size(); ++i) y[i] += c.scale * a[i] * b[i];
  }
  return {y};
}

void check(const Case& c) {
  const int64_t C = c.x.back();
  const Shape factors{c.J, c.Ka, c.Ka, C};
  check_op({.name = c.name,
            .op = &quadratic_depthwise_conv2d_op,
            .inputs = {{.shape = c.x, .gradient = c.trained[0]},
                       {.shape = {c.K, c.K, C}, .gradient = c.trained[1], .absent = c.K == 0},
                       {.shape = {C}, .gradient = c.trained[2], .absent = !c.bias},
                       {.shape = factors, .gradient = c.trained[3]},
                       {.shape = factors, .gradient = c.trained[4]}},
            .attributes = join(c.linear, c.quadratic, c.scale),
            .reference = [c](const std::vector<Array>& in) { return naive(c, in); },
            // A product of two sums in float: the errors of both.
            .f32_tolerance = 4e-6,
            .max_differences = 7});
}

// Inputs of one call, all leaves: x, weight, bias, a, b.
template <class T>
struct Leaves {
  Tensor x, weight, bias, a, b;
  Leaves(const Shape& x_shape, int64_t K, int64_t Ka, int64_t J) {
    const int64_t C = x_shape.back();
    const auto make = [](const Shape& shape, uint32_t item) { return leaf(random_values<T>(shape, item), shape); };
    x = make(x_shape, 0), weight = make({K, K, C}, 1), bias = make({C}, 2);
    a = make({J, Ka, Ka, C}, 3), b = make({J, Ka, Ka, C}, 4);
  }
  std::vector<Tensor> all() const { return {x, weight, bias, a, b}; }
};

}  // namespace

TEST_CASE("quadratic_depthwise_conv2d") {
  check({"QuadraNet's layer: three kernels alike", {2, 9, 8, 5}, 7, 7, 1, {1, 3, 1}, {1, 3, 1}});
  check({"3x3 dilation 3 beside 7x7, rank 2", {2, 5, 16, 16}, 7, 3, 2, {1, 3, 1}, {1, 3, 3}, 0.5});
  check({"rank 0", {2, 5, 8, 16}, 3, 3, 0, {1, 1, 1}, {1, 1, 1}});
  check({"rank 4", {1, 7, 6, 19}, 3, 3, 4, {1, 1, 1}, {1, 1, 1}, 0.25});
  check({"stride 2", {2, 9, 7, 33}, 7, 3, 2, {2, 3, 1}, {2, 3, 3}, 0.5});
  check({"smaller than both kernels", {3, 2, 3, 1}, 7, 3, 1, {1, 3, 1}, {1, 3, 3}, -2});
  check({"3x3 dilation 2 beside 5x5", {1, 8, 8, 5}, 5, 3, 2, {1, 2, 1}, {1, 2, 2}});
  check({"5x5 factors beside 3x3", {1, 7, 15, 3}, 3, 5, 1, {1, 1, 1}, {1, 2, 1}});
  check({"strides of their own: 4 and 2 outputs a side by either", {2, 7, 8, 3}, 1, 3, 2, {2, 0, 1}, {2, 1, 1}});
  check({"strides 1 and 2", {1, 4, 4, 2}, 3, 2, 1, {1, 0, 1}, {2, 0, 1}});
  check({"more tiles than a device has sums for", {1030, 1, 2, 3}, 3, 3, 1, {1, 1, 1}, {1, 1, 1}});
  check({"more weights than a device's shared memory holds", {2, 2, 3, 2}, 7, 7, 8, {1, 3, 1}, {1, 3, 1}, 0.125});
  check({"factors so far apart that no tile fits there", {1, 3, 4, 2}, 3, 3, 1, {1, 1, 1}, {1, 60, 60}});
}

TEST_CASE("quadratic_depthwise_conv2d: absent and frozen inputs") {
  const Window same3 = {1, 3, 1}, atrous = {1, 3, 3};
  for (const Shape& x : {Shape{2, 5, 8, 3}, Shape{2, 5, 8, 16}}) {
    check({"no linear kernel", x, 0, 3, 2, {}, atrous, 0.5});
    check({"no linear kernel, stride 2", x, 0, 3, 2, {}, {2, 1, 1}, 0.5, false});
    check({"no bias", x, 7, 3, 1, same3, atrous, 1, false});
    check({"an adapter: linear kernel frozen", x, 7, 3, 2, same3, atrous, 0.5, true, {true, false, false, true, true}});
    check({"the first adapter: x frozen too", x, 7, 3, 2, same3, atrous, 0.5, true, {false, false, false, true, true}});
    check({"a alone", x, 7, 3, 2, same3, atrous, 0.5, true, {false, false, false, true, false}});
    check({"b alone", x, 7, 3, 2, same3, atrous, 0.5, true, {false, false, false, false, true}});
    check({"x and a", x, 7, 7, 1, same3, same3, 0.5, true, {true, false, false, true, false}});
    check({"x alone", x, 7, 3, 2, same3, atrous, 0.5, true, {true, false, false, false, false}});
    check({"factors frozen", x, 7, 3, 2, same3, atrous, 0.5, true, {true, true, true, false, false}});
    check({"linear kernel and bias alone", x, 7, 3, 2, same3, atrous, 0.5, true, {false, true, true, false, false}});
  }
}

// PAPER 9, acceptance test 1: with a = 0 an adapted layer's output compares equal to the plain one's. On any device.
TEST_CASE_TEMPLATE("a zero product leaves depthwise_conv2d, element by element", T, float, double) {
  for (const Shape& x : {Shape{3, 16, 16, 19}, Shape{2, 4, 5, 33}}) {
    for (const int stride : {1, 2}) {
      const Leaves<T> leaves(x, 7, 3, 2);
      std::vector<Tensor> in = leaves.all();
      in[3] = Tensor::full(leaves.a.shape(), 0, leaves.a.dtype());
      for (Tensor& input : in) input = input.to(test_device(), Category::inputs);
      const Window linear{stride, 3, 1};
      const Tensor plain = depthwise_conv2d(in[0], in[1], in[2], linear);
      const Tensor adapted =
          quadratic_depthwise_conv2d(in[0], in[1], in[2], in[3], in[4], join(linear, {stride, 3, 3}, 0.5));
      CHECK(plain.to_vector<T>() == adapted.to_vector<T>());
    }
  }
}

// PAPER 9, acceptance test 2.
TEST_CASE("a zero start: no gradient for b, one for a") {
  const Leaves<float> in({2, 8, 8, 5}, 7, 3, 2);
  const Tensor zero = leaf(std::vector<float>(static_cast<size_t>(in.a.elements())), in.a.shape());
  Tape tape;
  const Tensor y = quadratic_depthwise_conv2d(in.x, in.weight, in.bias, zero, in.b, join({1, 3, 1}, {1, 3, 3}, 0.5));
  backward_from(tape, y, random_values<float>(y.shape(), 7));
  for (int64_t i = 0; i < in.a.elements(); ++i) {
    CHECK(in.b.gradient().at(i) == 0);
    CHECK(zero.gradient().at(i) != 0);
  }
}

// PAPER 9, acceptance test 5: 3x3 with dilation 3 is the 7x7 kernel whose other taps are zero.
TEST_CASE("an atrous 3x3 kernel equals its zero-filled 7x7") {
  const Leaves<double> in({2, 11, 16, 19}, 7, 3, 2);
  const auto fill = [](const Tensor& kernels) {  // [J, 3, 3, C] to [J, 7, 7, C]
    const Shape s = kernels.shape();
    const Tensor filled = Tensor::full({s[0], 7, 7, s[3]}, 0, DType::f64);
    for (int64_t i = 0; i < kernels.elements(); ++i) {
      const int64_t c = i % s[3], tap = i / s[3] % 9, j = i / s[3] / 9;
      filled.data<double>()[((j * 7 + tap / 3 * 3) * 7 + tap % 3 * 3) * s[3] + c] = kernels.at(i);
    }
    return filled;
  };
  const auto run = [&](const Tensor& a, const Tensor& b, int dilation) {
    in.x.zero_gradient();
    Tape tape;
    const Tensor y = quadratic_depthwise_conv2d(in.x, in.weight, in.bias, a, b, join({1, 3, 1}, {1, 3, dilation}, 0.5));
    backward_from(tape, y, random_values<double>(y.shape(), 7));
    return std::pair{as_array(y), as_array(in.x.gradient())};
  };
  const Tensor a = fill(in.a).set_requires_gradient(true), b = fill(in.b).set_requires_gradient(true);
  const auto [y, dx] = run(in.a, in.b, 3);
  const auto [filled_y, filled_dx] = run(a, b, 1);
  CHECK(y == filled_y);
  CHECK(dx == filled_dx);
  // The other taps have gradients too; those of the nine are the same, up to the order of the sum over pixels.
  const Tensor places = fill(Tensor::full(in.a.shape(), 1, DType::f64));
  for (const auto& [small, large] : {std::pair{in.a, a}, std::pair{in.b, b}}) {
    Array at_taps = as_array(large.gradient());
    for (size_t i = 0; i < at_taps.size(); ++i) at_taps[i] *= places.at(static_cast<int64_t>(i));
    CHECK(relative_error(at_taps, as_array(fill(small.gradient()))) <= 1e-14);
  }
}

// PAPER 9, acceptance test 4: x^T (sum_j a_j b_j^T) x, the quadratic form itself.
TEST_CASE("the factors are a quadratic form of the patch") {
  const Shape shape{1, 3, 3, 2};
  const Leaves<double> in(shape, 3, 3, 4);
  const Tensor y = quadratic_depthwise_conv2d(in.x, {}, {}, in.a, in.b, {.scale = 1});
  REQUIRE(y.shape() == Shape{1, 1, 1, 2});
  for (int64_t c = 0; c < 2; ++c) {
    double form = 0;
    for (int64_t p = 0; p < 9; ++p) {
      for (int64_t q = 0; q < 9; ++q) {
        double w = 0;  // W_Q[p][q]
        for (int64_t j = 0; j < 4; ++j) w += in.a.at((j * 9 + p) * 2 + c) * in.b.at((j * 9 + q) * 2 + c);
        form += in.x.at(p * 2 + c) * w * in.x.at(q * 2 + c);
      }
    }
    CHECK(y.at(c) == doctest::Approx(form).epsilon(1e-13));
  }
}

// PAPER 9, acceptance test 6, beyond the harness: many images, whose weight gradients are cut into groups.
TEST_CASE("x only and stored a and b: every bit the same") {
  const auto gradients = [](Checkpoint checkpoint, int threads) {
    set_threads(threads);
    const Leaves<float> in({9, 8, 16, 40}, 7, 3, 2);
    Tape tape({.checkpoint = checkpoint});
    const Tensor y = quadratic_depthwise_conv2d(in.x, in.weight, in.bias, in.a, in.b, join({1, 3, 1}, {1, 3, 3}, 0.5));
    backward_from(tape, y, random_values<float>(y.shape(), 7));
    std::vector<Array> result;
    for (const Tensor& input : in.all()) result.push_back(as_array(input.gradient()));
    return result;
  };
  const std::vector<Array> x_only = gradients(Checkpoint::standard, 1);
  CHECK(gradients(Checkpoint::none, 1) == x_only);
  CHECK(gradients(Checkpoint::none, 2) == x_only);
  CHECK(gradients(Checkpoint::standard, 2) == x_only);
  set_threads(1);
}

// PAPER 4.1: x only keeps N bytes for any rank; storing a and b keeps N + 2 r M. Weights are parameters, kept anyway.
TEST_CASE("stored bytes are PAPER 4.1's") {
  const Shape x{2, 9, 8, 6};
  for (const int64_t J : {1, 2, 4}) {
    for (const int stride : {1, 2}) {
      const std::vector<TensorSpec> specs = {{x}, {{7, 7, 6}}, {{6}}, {{J, 3, 3, 6}}, {{J, 3, 3, 6}}};
      const Attributes attributes = join({stride, 3, 1}, {stride, 3, 3}, 0.5);
      for (const uint64_t mask : {0b11111, 0b11001}) {
        for (const int variant : {0, 1}) {
          const Signature s{attributes, specs, mask, variant};
          const Layout layout = quadratic_depthwise_conv2d_op.layout(s);
          const Needs needs = quadratic_depthwise_conv2d_op.needs(s);
          size_t bytes = needs.inputs & 1 ? specs[0].bytes() : 0;
          for (size_t i = 0; i < layout.auxiliary.size(); ++i)
            if (needs.auxiliary >> i & 1) bytes += layout.auxiliary[i].bytes();
          const size_t M = layout.outputs[0].bytes();
          CHECK(bytes == specs[0].bytes() + (variant == 1 ? 2 * static_cast<size_t>(J) * M : 0));
          CHECK(needs.outputs == 0);
        }
      }
    }
  }
}

TEST_CASE("frozen inputs cost nothing") {
  const std::vector<TensorSpec> specs = {{{1, 8, 8, 4}}, {{7, 7, 4}}, {{4}}, {{2, 3, 3, 4}}, {{2, 3, 3, 4}}};
  const Attributes attributes = join({1, 3, 1}, {1, 3, 3}, 0.5);
  const auto backward = [&](uint64_t mask, int variant) {
    return quadratic_depthwise_conv2d_op.cost({attributes, specs, mask, variant}).backward.flops;
  };
  const double outputs = 8 * 8 * 4, linear = outputs * 2 * 49, branch = outputs * 2 * 9;
  // PAPER 4.1: C^T g, and for each rank A^T, B^T, dA, dB and, where they are not kept, a and b again; scaling g by s
  // and by each a and b.
  CHECK(backward(0b11001, 0) == linear + 2 * 6 * branch + outputs * 5);
  CHECK(backward(0b11001, 1) == linear + 2 * 4 * branch + outputs * 5);
  CHECK(backward(0b00010, 0) == linear);
  CHECK(backward(0b00100, 0) == outputs);
  CHECK(backward(0b01000, 0) == 2 * 2 * branch + outputs * 3);  // dA and b again
  const auto needs = [&](uint64_t mask, int variant) {
    return quadratic_depthwise_conv2d_op.needs({attributes, specs, mask, variant}).inputs;
  };
  CHECK(needs(0b00010, 0) == 0b00001);
  CHECK(needs(0b01000, 0) == 0b10001);
  CHECK(needs(0b00001, 0) == 0b11011);
  CHECK(needs(0b00001, 1) == 0b11010);
  CHECK(needs(0b00100, 0) == 0);
}

TEST_CASE("quadratic_depthwise_conv2d: errors") {
  const auto zeros = [](const Shape& shape) { return Tensor::full(shape, 0); };
  const Tensor x = zeros({1, 8, 8, 6}), w = zeros({7, 7, 6}), a = zeros({2, 3, 3, 6});
  const QuadraticDepthwiseAttributes attributes = join({1, 3, 1}, {1, 3, 3}, 1);
  const auto run = [&](const Tensor& weight, const Tensor& first, const Tensor& second) {
    return quadratic_depthwise_conv2d(x, weight, {}, first, second, attributes);
  };
  CHECK_THROWS_WITH_AS(
      run(w, a, zeros({1, 3, 3, 6})),
      "[quadratic_depthwise_conv2d] a, b: got [2, 3, 3, 6] and [1, 3, 3, 6], expected both [J, R, S, C]", ShapeError);
  CHECK_THROWS_AS(run(w, {}, {}), ShapeError);
  CHECK_THROWS_WITH_AS(
      run(w, zeros({2, 3, 3, 5}), zeros({2, 3, 3, 5})),
      "[quadratic_depthwise_conv2d] a, b: got [2, 3, 3, 5] for an input of 6 channels, expected [2, 3, 3, 6]",
      ShapeError);
  CHECK_THROWS_WITH_AS(run(zeros({7, 6}), a, a), "[quadratic_depthwise_conv2d] weight: got [7, 6], expected [R, S, C]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      run(zeros({5, 5, 6}), a, a),
      "[quadratic_depthwise_conv2d] outputs: got [1, 10, 10, 6] by weight and [1, 8, 8, 6] by a and b, "
      "expected the same",
      ShapeError);
}

}  // namespace parabola::quadratic_depthwise_test
