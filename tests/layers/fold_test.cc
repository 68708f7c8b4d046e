// Folding for inference: the same function with less work, for every model and every form of adapter.
#include "layers/fold.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "apps/common/evaluation.h"
#include "data/cifar.h"
#include "data/dataset.h"
#include "data/preprocess.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/tape/tape.h"
#include "layers/adapter.h"
#include "layers/models/models.h"
#include "layers/quadratic.h"
#include "layers/weights.h"
#include "tests/support/test.h"

namespace parabola::fold_test {
namespace {

Tensor random_images(const Shape& shape, DType dtype) {
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  Random random({.seed = 5, .stream = Stream::test});
  for (double& value : values) value = random.normal();
  return Tensor::from(values, shape, Category::inputs).to(dtype, Category::inputs);
}

// Values that no fold can pass over: scales away from 1, shifts away from 0, adapters that contribute; and statistics
// of the images as they then are, without which products of products leave the range of numbers.
void trained_values(Module& model, const Shape& images) {
  uint32_t item = 0;
  for (const Module::Entry& entry : model.tensors()) {
    Random random({.seed = 4, .stream = Stream::test, .item = ++item});
    const bool norm = entry.tensor->shape().rank() == 1 && !entry.name.ends_with("bias");
    for (float& value : entry.tensor->span<float>()) {
      const auto uniform = static_cast<float>(random.uniform()), normal = static_cast<float>(random.normal());
      if (norm)
        value = 0.5F + uniform;  // layer scales too
      else
        value += 0.1F * normal;
    }
  }
  model.set_training(true);
  for (int pass = 0; pass < 10; ++pass) model(random_images(images, DType::f32));
  model.set_training(false);
}

double distance(const Tensor& is, const Tensor& should_be) {
  const std::vector<double> a = values_of(is), b = values_of(should_be);
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
  return std::sqrt(difference / norm);
}

// The ops that a forward pass consists of.
std::set<std::string> ops_of(Module& model, const Tensor& x) {
  const Tape tape;
  model(x);
  std::set<std::string> names;
  for (const Node& node : tape.nodes()) names.emplace(node.op->name);
  return names;
}

struct Adaptation {
  std::string name;
  void (*attach)(Module& model);
};

// As the apps attach them, and forms that only an AdapterSpec chooses.
const Adaptation adaptations[] = {
    {"none", [](Module&) {}},
    {"quadratic", [](Module& model) { attach_adapters(model, AdapterOptions{.scale = 0.7}); }},
    {"quadratic on all", [](Module& model) { attach_adapters(model, AdapterOptions{.match = "*", .rank = 3}); }},
    {"lora", [](Module& model) { attach_adapters(model, AdapterOptions{.method = "lora", .rank = 2, .scale = 0.7}); }},
    {"neuron-wise", [](Module& model) {
       std::vector<AdapterSpec> specs = plan_adapters(model, {});
       for (AdapterSpec& spec : specs) spec.form = AdapterForm::neuron_wise;
       attach_adapters(model, specs, 1);
     }}};

Shape images_of(const ModelInfo& info) {
  const bool large = info.image[0] > 32;
  return {2, large ? 63 : info.image[0], large ? 63 : info.image[1], info.image[2]};
}

std::unique_ptr<Module> small_model(const ModelInfo& info, const Adaptation& adaptation) {
  ModelOptions options{.widths = {4, 8, 12}, .depths = {1, 1, 2}};
  if (info.name.starts_with("squeezenet")) options.widths = {2, 3, 4};
  auto model = info.make(options);
  model->initialize(2);
  adaptation.attach(*model);
  trained_values(*model, images_of(info));
  return model;
}

bool has_hosts(const ModelInfo& info, const Adaptation& adaptation) {
  const bool all = adaptation.name == "quadratic on all";
  return adaptation.name == "none" || (all ? info.name != "qmlp" : !info.name.ends_with("mlp"));
}

}  // namespace

TEST_CASE("fold: every model computes the same, in float32 and float64, with adapters of every form") {
  for (const ModelInfo& info : models::all())
    for (const Adaptation& adaptation : adaptations) {
      if (!has_hosts(info, adaptation)) continue;
      CAPTURE(info.name);
      CAPTURE(adaptation.name);
      for (const DType dtype : {DType::f32, DType::f64}) {
        const auto model = small_model(info, adaptation);
        model->set_dtype(dtype);
        const Tensor x = random_images(images_of(info), dtype);
        const Tensor before = (*model)(x);
        model->fold();
        CHECK(distance((*model)(x), before) < (dtype == DType::f32 ? 1e-5 : 1e-12));
      }
    }
}

TEST_CASE("fold: norms, layer scales and what can be merged are gone, and an adapted layer is one op") {
  for (const ModelInfo& info : models::all())
    for (const Adaptation& adaptation : adaptations) {
      if (!has_hosts(info, adaptation)) continue;
      CAPTURE(info.name);
      CAPTURE(adaptation.name);
      const auto model = small_model(info, adaptation);
      model->fold();
      CHECK(trainable(*model).empty());
      const std::set<std::string> ops = ops_of(*model, random_images(images_of(info), DType::f32));
      for (const char* op : {"batch_norm_inference", "quadratic_conv2d_normed_inference", "multiply"})
        CHECK_FALSE(ops.contains(op));
      const bool is_lora = adaptation.name == "lora";
      for (const Module::Entry& entry : model->tensors()) {
        CAPTURE(entry.name);
        for (const char* gone : {"*running*", "*gamma*"}) CHECK_FALSE(matches(gone, entry.name));
        if (is_lora) CHECK_FALSE(matches("*adapter*", entry.name));
      }
    }
}

TEST_CASE("fold: qresnet14's layer is quadratic_conv2d with a linear term") {
  const auto model = small_model(models::info("qresnet14"), adaptations[0]);
  model->fold();
  const std::set<std::string> ops = ops_of(*model, random_images({1, 32, 32, 3}, DType::f32));
  CHECK(ops == std::set<std::string>{"quadratic_conv2d", "conv2d", "relu", "add", "mean", "linear"});
}

TEST_CASE("fold: a linear adapter merges where its taps are the layer's, and else stays") {
  struct Case {
    const char* what;
    Conv2dOptions host;
    int kernel, dilation;
    bool merges;
  };
  const Case cases[] = {
      {"the same taps", {.in = 4, .out = 6, .kernel = 3, .stride = 2, .padding = 1}, 3, 1, true},
      {"a smaller kernel", {.in = 4, .out = 6, .kernel = 5, .padding = 2}, 3, 1, true},
      {"spread over a larger one", {.in = 4, .out = 6, .kernel = 5, .padding = 2}, 3, 2, true},
      {"both dilated", {.in = 4, .out = 6, .kernel = 3, .padding = 2, .dilation = 2}, 3, 2, true},
      {"beside the taps", {.in = 4, .out = 6, .kernel = 3, .padding = 2, .dilation = 2}, 3, 1, false},
      {"beyond the taps", {.in = 4, .out = 6, .kernel = 3, .padding = 1}, 5, 1, false},
      {"over the groups", {.in = 4, .out = 6, .kernel = 3, .padding = 1, .groups = 2}, 3, 1, false},
      {"depthwise, spread", {.in = 5, .out = 5, .kernel = 7, .padding = 3, .groups = 5}, 3, 3, true},
      {"depthwise, beyond", {.in = 5, .out = 5, .kernel = 3, .padding = 1, .groups = 5}, 3, 2, false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Conv2d host(c.host);
    host.initialize(1);
    attach_adapters(
        host, {{.form = AdapterForm::lora, .rank = 2, .kernel = c.kernel, .dilation = c.dilation, .scale = 0.7}}, 1);
    trained_values(host, {2, 9, 8, c.host.in});
    host.set_dtype(DType::f64);
    const Tensor x = random_images({2, 9, 8, c.host.in}, DType::f64);
    const Tensor before = host(x);
    host.fold();
    CHECK((host.adapter() == nullptr) == c.merges);
    CHECK(distance(host(x), before) < 1e-12);
    host.scale_outputs(std::vector<double>(static_cast<size_t>(c.host.out), -2));
    host.shift_outputs(std::vector<double>(static_cast<size_t>(c.host.out), 0));
    std::vector<double> scaled = values_of(before);
    for (double& value : scaled) value *= -2;
    CHECK(distance(host(x), Tensor::from(scaled, before.shape())) < 1e-12);
  }
}

TEST_CASE("fold: a folded model stays folded") {
  const auto model = models::create("resnet20", {.widths = {4}, .depths = {1}});
  attach_adapters(*model, {.match = "layer1.*"});
  CHECK_THROWS_WITH_AS(model->fold(), doctest::Contains("training mode"), UsageError);
  trained_values(*model, {2, 8, 8, 3});
  std::vector<std::pair<Tensor, std::vector<double>>> before;
  for (const Module::Entry& entry : model->tensors()) before.emplace_back(*entry.tensor, values_of(*entry.tensor));
  model->fold();
  for (const auto& [tensor, values] : before) CHECK(values_of(tensor) == values);  // whoever holds one keeps his
  const auto folded = model->tensors();
  model->fold();
  CHECK(model->tensors().size() == folded.size());
  for (const Module::Entry& entry : folded) CHECK_FALSE(matches("*bn*", entry.name));
  CHECK_THROWS_WITH_AS(model->set_training(true), doctest::Contains("cannot train"), UsageError);
  CHECK_THROWS_WITH_AS(attach_adapters(*model, {.match = "conv1"}), doctest::Contains("conv1: is folded"), UsageError);
}

TEST_CASE("fold: a trained ResNet-20 judges CIFAR-10's images as before") {
  if (sanitized()) SKIP("too slow with sanitizers; the plain build runs it");
  if (cifar10_folder().empty()) SKIP(missing_data());
  const auto model = models::create("resnet20");
  load_weights(*model, data_folder() + "/weights/resnet20-cifar10.safetensors");
  const DatasetPtr images = subset(read_cifar10_test(cifar10_folder()), 0, 500);
  const Preprocessing preprocessing = Preprocessing::parse(models::info("resnet20").preprocessing);
  const Score before = evaluate(*model, images, preprocessing, 100);
  model->set_training(false);
  model->fold();
  const Score after = evaluate(*model, images, preprocessing, 100);
  CHECK(after.correct == before.correct);
  CHECK(after.in_top5 == before.in_top5);
  CHECK(after.loss == doctest::Approx(before.loss).epsilon(1e-5));
}

}  // namespace parabola::fold_test
