// The layers of QuadraLib's types: which weights each has, and that its forward is the formula.
#include "layers/quadratic.h"

#include <map>

#include "engine/core/error.h"
#include "engine/ops/binary.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/linear.h"
#include "engine/ops/unary.h"
#include "engine/ops/view.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::quadratic_test {

using namespace test;

namespace {

using enum QuadraticType;

struct Weights {
  QuadraticType type;
  std::vector<std::string> names;
  int64_t dense, conv;  // parameters of 3 inputs and 4 outputs; of 2 channels in 2 groups, 3x3 (n = 9), to 4
};
const std::vector<Weights> all = {
    {type1, {"b.weight"}, 4 * 9, 4 * 81},
    {type2, {"square.weight"}, 4 * 3, 4 * 9},
    {type3, {"a.weight"}, 4 * 3, 4 * 9},
    {type4, {"a.weight", "b.weight"}, 4 * 6, 4 * 18},
    {type12, {"b.weight", "square.weight"}, 4 * 12, 4 * 90},
    {type24, {"a.weight", "b.weight", "square.weight"}, 4 * 9, 4 * 27},
    {type24_shared, {"a.weight", "b.weight"}, 4 * 6, 4 * 18},
};

Tensor random_input(const Shape& shape) {
  return Tensor::from(random_array(shape.elements(), -1, 1, 7), shape).to(DType::f64, Category::inputs);
}

// The term composed of first-order ops: `map` is linear or conv2d with one weight.
template <class Map>
Tensor composed(Module& layer, const Tensor& x, Map&& map, int64_t n) {
  std::map<std::string, Tensor> w;
  for (const Module::Entry& entry : layer.tensors()) w[entry.name] = *entry.tensor;
  const auto one = [](const Tensor& factor, int64_t j, bool dense) {  // kernel j of [J, K, ...]
    const Shape& s = factor.shape();
    const Array values = factor.to_vector<double>();
    const int64_t size = factor.elements() / s[0];
    const Shape shape = dense ? Shape{s[1], s[2]} : Shape{s[1], s[2], s[3], s[4]};
    return Tensor::from(Array(values.begin() + j * size, values.begin() + (j + 1) * size), shape);
  };
  const bool dense = x.shape().rank() == 2;
  Tensor y;
  const auto plus = [&](const Tensor& part) { y = y ? y + part : part; };
  if (w.count("a.weight") && w.count("b.weight"))
    plus(map(x, one(w["a.weight"], 0, dense)) * map(x, one(w["b.weight"], 0, dense)));
  else if (w.count("a.weight"))
    plus(square(map(x, one(w["a.weight"], 0, dense))));
  else if (w.count("b.weight"))
    for (int64_t j = 0; j < n; ++j) {
      const Tensor row = one(w["b.weight"], j, dense);
      Array picks(static_cast<size_t>(row.elements()));
      for (int64_t k = 0; k < row.shape()[0]; ++k) picks[static_cast<size_t>(k * n + j)] = 1;
      plus(map(x, Tensor::from(picks, row.shape())) * map(x, row));
    }
  if (w.count("square.weight")) plus(map(square(x), w["square.weight"]));
  return y;
}

}  // namespace

TEST_CASE("quadratic layers: each type's weights, and its term is the formula's") {
  const Tensor rows = random_input({5, 3}), images = random_input({2, 6, 5, 2});
  const ConvAttributes attributes{.stride = 2, .padding = 1, .groups = 2};
  const auto conv = [&](const Tensor& x, const Tensor& w) { return conv2d(x, w, {}, attributes); };
  const auto dense = [](const Tensor& x, const Tensor& w) { return linear(x, w); };
  const auto check = [](Module& layer, const Weights& expected, int64_t parameters, const Tensor& x, auto&& map,
                        int64_t n) {
    std::vector<std::string> names;
    for (const Module::Entry& entry : layer.tensors()) names.push_back(entry.name);
    CHECK(names == expected.names);
    CHECK(parameter_count(layer) == parameters);
    layer.initialize(3);
    layer.set_dtype(DType::f64);
    Tensor reference = composed(layer, x, map, n);
    if (expected.type == type24_shared) {
      const Tensor& b = *layer.tensors()[1].tensor;
      const Shape& s = b.shape();
      reference =
          reference + map(square(x), reshape(b, s.rank() == 3 ? Shape{s[1], s[2]} : Shape{s[1], s[2], s[3], s[4]}));
    }
    CHECK(relative_error(layer(x).to_vector<double>(), reference.to_vector<double>()) < 1e-13);
  };
  for (const Weights& type : all) {
    const QuadraticOptions alone{type.type, false, false};
    QuadraticLinear fully(3, 4, alone);
    check(fully, type, type.dense, rows, dense, 3);
    QuadraticConv2d convolution({.in = 2, .out = 4, .kernel = 3, .stride = 2, .padding = 1, .groups = 2}, alone);
    check(convolution, type, type.conv, images, conv, 9);
  }
}

TEST_CASE("quadratic layers: without options, QuadraLib's own with a linear term and a bias") {
  QuadraticConv2d layer({.in = 2, .out = 4, .kernel = 3, .padding = 1});
  std::vector<std::string> names;
  for (const Module::Entry& entry : layer.tensors()) names.push_back(entry.name);
  CHECK(names == std::vector<std::string>{"a.weight", "b.weight", "c.weight", "c.bias"});
  layer.initialize(1);
  CHECK(layer(Tensor::full({1, 5, 5, 2}, 1.0)).shape() == Shape{1, 5, 5, 4});
}

}  // namespace parabola::quadratic_test
