// Module: names, globs, freezing, modes, types, and how parameters start.
#include "layers/module.h"

#include <cmath>
#include <cstring>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/models/models.h"
#include "tests/support/test.h"

namespace parabola::module_test {
namespace {

class TwoLayers final : public Module {
 public:
  TwoLayers() : first(3, 4), second(4, 2, false), norm(2) {
    add("first", first);
    add("blocks.0", second);
    add("norm", norm);
  }
  Linear first, second;
  BatchNorm norm;

 private:
  Tensor forward(const Tensor& x) override { return norm(second(relu(first(x)))); }
};

std::vector<std::string> names_of(const Module& module) {
  std::vector<std::string> names;
  for (const Module::Entry& entry : module.tensors()) names.push_back(entry.name);
  return names;
}

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
};
Moments moments(const Tensor& tensor) {
  Moments m;
  const auto n = static_cast<double>(tensor.elements());
  for (const float value : tensor.span<float>()) {
    m.mean += value / n;
    m.largest = std::max(m.largest, std::abs(static_cast<double>(value)));
  }
  for (const float value : tensor.span<float>()) m.deviation += (value - m.mean) * (value - m.mean) / n;
  m.deviation = std::sqrt(m.deviation);
  return m;
}

bool same_weights(const Module& left, const Module& right) {
  const auto l = left.tensors(), r = right.tensors();
  return std::ranges::equal(l, r, [](const Module::Entry& a, const Module::Entry& b) {
    return a.name == b.name && a.tensor->bytes() == b.tensor->bytes() &&
           std::memcmp(a.tensor->raw(), b.tensor->raw(), a.tensor->bytes()) == 0;
  });
}

}  // namespace

TEST_CASE("module: tensors and modules are named depth first, in order of registration") {
  TwoLayers model;
  CHECK(names_of(model) == std::vector<std::string>{"first.weight", "first.bias", "blocks.0.weight", "norm.weight",
                                                    "norm.bias", "norm.running_mean", "norm.running_var"});
  std::vector<std::string> modules;
  for (const auto& [name, module] : model.modules()) modules.push_back(name);
  CHECK(modules == std::vector<std::string>{"", "first", "blocks.0", "norm"});
  CHECK(model.modules()[2].second == &model.second);
  CHECK(parameter_count(model) == 3 * 4 + 4 + 4 * 2 + 2 + 2);  // running statistics are no parameters
}

TEST_CASE("module: errors and tape nodes say which layer they are in") {
  TwoLayers model;
  model.initialize(1);
  const Tensor wrong = Tensor::full({5, 7}, 1);
  std::string message;
  try {
    model(wrong);
  } catch (const ShapeError& error) {
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.ends_with("(in first)"));
  Tape tape;
  const Tensor y = model(Tensor::full({5, 3}, 1));
  CHECK(tape.nodes().front().scope == "first");
  CHECK(tape.nodes().back().scope == "norm");
}

TEST_CASE("module: globs match whole names, and * crosses dots") {
  CHECK(matches("layer1.0.conv1", "layer1.0.conv1"));
  CHECK_FALSE(matches("layer1.0.conv1", "layer1.0.conv10"));
  CHECK_FALSE(matches("conv1", "layer1.0.conv1"));
  CHECK(matches("layer*.conv*", "layer1.0.conv2"));
  CHECK(matches("*", ""));
  CHECK(matches("*", "any.name"));
  CHECK(matches("*.conv?", "layer3.2.conv1"));
  CHECK_FALSE(matches("*.conv?", "layer3.2.conv"));
  CHECK_FALSE(matches("?", ""));
  CHECK_FALSE(matches("", "x"));
  CHECK(matches("", ""));
  CHECK(matches("*a*b", "xaxxabxb"));  // the last * has to give back what it took first
  CHECK_FALSE(matches("*a*b", "xaxxabxbc"));
  CHECK(matches("a**", "a"));
  CHECK_FALSE(matches("[ab].weight", "a.weight"));  // no classes: brackets stand for themselves
  // A pattern on which a recursive matcher would take exponential time.
  CHECK_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*b", std::string(200, 'a')));
}

TEST_CASE("module: freezing by pattern") {
  TwoLayers model;
  CHECK(set_trainable(model, "*", false) == 5);  // buffers are not counted: they never train
  CHECK(trainable(model).empty());
  CHECK(set_trainable(model, "*.weight", true) == 3);
  CHECK(trainable(model).size() == 3);
  CHECK(parameter_count(model, true) == 3 * 4 + 4 * 2 + 2);
  CHECK(set_trainable(model, "no.such.name", true) == 0);
  for (const Module::Entry& entry : model.tensors())
    CHECK(entry.tensor->requires_gradient() == entry.name.ends_with(".weight"));
}

TEST_CASE("module: a frozen parameter gets no gradient") {
  TwoLayers model;
  model.initialize(1);
  set_trainable(model, "first.*", false);
  {
    Tape tape;
    const Tensor loss = mean(model(Tensor::from(std::vector<float>{1, 2, 3, -1, 0, 1}, {2, 3})));
    tape.backward(loss);
  }
  CHECK_FALSE(model.first.weight().gradient().defined());
  CHECK(model.second.weight().gradient().defined());
}

TEST_CASE("module: training mode reaches every part, those added later too") {
  TwoLayers model;
  model.initialize(1);
  CHECK(model.training());
  model.set_training(false);
  for (const auto& [name, module] : model.modules()) CHECK_FALSE(module->training());
  const Tensor x = Tensor::full({4, 3}, 1);
  const Tensor before = model.norm.tensors()[2].tensor->clone(Category::inputs);
  model(x);
  CHECK(model.norm.tensors()[2].tensor->to_vector<float>() == before.to_vector<float>());
  model.set_training(true);
  model(x);
  CHECK(model.norm.tensors()[2].tensor->to_vector<float>() != before.to_vector<float>());
}

TEST_CASE("module: a frozen BatchNorm uses its running statistics in training too") {
  BatchNorm norm(2);
  norm.initialize(1);
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {3, 2});
  norm.freeze(true);
  const std::vector<float> frozen = norm(x).to_vector<float>();
  CHECK(norm.tensors()[2].tensor->to_vector<float>() == std::vector<float>{0, 0});
  norm.set_training(false);
  norm.freeze(false);
  CHECK(norm(x).to_vector<float>() == frozen);
  norm.set_training(true);
  CHECK(norm(x).to_vector<float>() != frozen);
  // momentum 0.1 from 0 towards the batch means 3 and 4
  CHECK(norm.tensors()[2].tensor->at(0) == doctest::Approx(0.3));
  CHECK(norm.tensors()[2].tensor->at(1) == doctest::Approx(0.4));
}

TEST_CASE("module: another type keeps values, and what trains") {
  TwoLayers model;
  model.initialize(3);
  set_trainable(model, "first.*", false);
  const std::vector<float> weight = model.first.weight().to_vector<float>();
  model.set_dtype(DType::f64);
  for (const Module::Entry& entry : model.tensors()) CHECK(entry.tensor->dtype() == DType::f64);
  for (size_t i = 0; i < weight.size(); ++i)
    CHECK(model.first.weight().at(static_cast<int64_t>(i)) == static_cast<double>(weight[i]));
  CHECK(trainable(model).size() == 3);
  model.set_dtype(DType::f32);
  CHECK(model.first.weight().to_vector<float>() == weight);
}

TEST_CASE("module: weights are a function of the seed alone") {
  const auto make = [](uint64_t seed) { return models::create("convnext_mnist", {.widths = {8, 8, 8}}, seed); };
  CHECK(same_weights(*make(5), *make(5)));
  CHECK_FALSE(same_weights(*make(5), *make(6)));
  // No two tensors share a sequence: equal shapes would otherwise start equal.
  const auto model = make(5);
  const auto entries = model->tensors();
  for (size_t i = 0; i < entries.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (entries[i].init.kind != Init::constant && entries[i].tensor->shape() == entries[j].tensor->shape())
        CHECK(entries[i].tensor->to_vector<float>() != entries[j].tensor->to_vector<float>());
}

TEST_CASE("module: PyTorch's default start is uniform within 1 / sqrt(fan-in), bias too") {
  Linear linear(400, 300);
  linear.initialize(1);
  const double bound = 1 / std::sqrt(400.0);
  const Moments weight = moments(linear.weight()), bias = moments(linear.bias());
  CHECK(weight.largest <= bound);
  CHECK(weight.largest > 0.999 * bound);                               // 120,000 draws leave no gap of a thousandth
  CHECK(std::abs(weight.mean) < 5 * bound / std::sqrt(3.0 * 120000));  // five standard errors
  CHECK(weight.deviation == doctest::Approx(bound / std::sqrt(3.0)).epsilon(0.01));
  CHECK(bias.largest <= bound);
  CHECK(bias.deviation == doctest::Approx(bound / std::sqrt(3.0)).epsilon(0.2));

  Conv2d conv({.in = 32, .out = 64, .kernel = 3, .groups = 2});  // fan-in 3 * 3 * 16
  conv.initialize(1);
  CHECK(moments(conv.weight()).largest <= 1 / 12.0);
  CHECK(moments(conv.weight()).deviation == doctest::Approx(1 / 12.0 / std::sqrt(3.0)).epsilon(0.03));
}

TEST_CASE("module: ConvNeXt's start is normal(0.02) with zero biases; norms start as the identity") {
  Conv2d conv({.in = 64, .out = 64, .kernel = 7, .groups = 64, .init = WeightInit::convnext});
  conv.initialize(2);
  const Moments weight = moments(conv.weight());
  CHECK(weight.deviation == doctest::Approx(0.02).epsilon(0.04));  // 3,136 draws
  CHECK(std::abs(weight.mean) < 5 * 0.02 / std::sqrt(3136.0));
  CHECK(weight.largest > 3 * 0.02);  // a uniform start would end at 1.7 deviations
  CHECK(moments(conv.bias()).largest == 0);

  BatchNorm norm(3);
  norm.initialize(2);
  const auto entries = norm.tensors();
  for (size_t i = 0; i < 4; ++i)
    CHECK(entries[i].tensor->to_vector<float>() == std::vector<float>(3, i == 0 || i == 3 ? 1.0f : 0.0f));

  GlobalResponseNorm response(2);
  response.initialize(2);
  const Tensor x = Tensor::from(std::vector<float>{1, -2, 3, 4}, {1, 2, 1, 2});
  CHECK(response(x).to_vector<float>() == x.to_vector<float>());
}

}  // namespace parabola::module_test
