// The registry: sizes, names as PyTorch's files have them, and that every model runs and learns under every policy.
#include "layers/models/models.h"

#include <cmath>
#include <set>

#include "data/preprocess.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/tape.h"
#include "layers/basic.h"
#include "layers/weights.h"
#include "tests/support/test.h"

namespace parabola::models_test {
namespace {

// "1,596,874", as the registry's summaries write numbers.
std::string with_commas(int64_t n) {
  std::string text = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<size_t>(at), ",");
  return text;
}

using Tensors = std::map<std::string, Shape>;

Tensors in_files(const Module& model) {
  Tensors tensors;
  for (const Module::Entry& entry : model.tensors())
    tensors.emplace(entry.name, file_shape(entry.tensor->shape(), entry.layout));
  return tensors;
}

void add_norm(Tensors& tensors, const std::string& name, int64_t channels) {
  for (const char* part : {"weight", "bias", "running_mean", "running_var"})
    tensors.emplace(name + "." + part, Shape{channels});
}

// The state dict of a CIFAR ResNet of akamaster/pytorch_resnet_cifar10 with `blocks` blocks a stage.
Tensors published_resnet(int blocks) {
  Tensors tensors{{"conv1.weight", {16, 3, 3, 3}}, {"linear.weight", {10, 64}}, {"linear.bias", {10}}};
  add_norm(tensors, "bn1", 16);
  int64_t in = 16;
  for (int stage = 1; stage <= 3; ++stage) {
    const int64_t out = 8 << stage;
    for (int block = 0; block < blocks; ++block) {
      const std::string name = concat("layer", stage, ".", block, ".");
      tensors.emplace(name + "conv1.weight", Shape{out, in, 3, 3});
      tensors.emplace(name + "conv2.weight", Shape{out, out, 3, 3});
      add_norm(tensors, name + "bn1", out);
      add_norm(tensors, name + "bn2", out);
      in = out;
    }
  }
  return tensors;
}

Tensor random_images(const Shape& image, int64_t count) {
  const Tensor images = Tensor::empty({count, image[0], image[1], image[2]}, DType::f32, Category::inputs);
  Random random({1, Stream::test});
  for (float& value : images.span<float>()) value = static_cast<float>(random.normal());
  return images;
}

}  // namespace

TEST_CASE("models: parameter counts are the published ones, and the summaries say them") {
  const std::map<std::string, int64_t> expected = {
      {"resnet20", 269722},        {"resnet32", 464154},
      {"resnet44", 658586},        {"resnet56", 853018},
      {"resnet110", 1727962},      {"qresnet14", 518938},
      {"convnext_cifar", 1596874}, {"quadranet_cifar", 1686474},
      {"convnext_mnist", 237682},  {"convnext_tiny", 27827818},
      {"squeezenet1_0", 740554},   {"squeezenet1_0_caffe", 740554},
      {"qmlp", 2007050},           {"mlp", 669706},
  };
  CHECK(models::all().size() == expected.size());
  for (const ModelInfo& info : models::all()) {
    CAPTURE(info.name);
    REQUIRE(expected.contains(info.name));
    const int64_t count = parameter_count(*info.make({}));
    CHECK(count == expected.at(info.name));
    CHECK(info.summary.find(" " + with_commas(count) + " parameters") != std::string::npos);
  }
}

TEST_CASE("models: the CIFAR ResNets have the tensors of the published files") {
  const struct {
    const char* name;
    int blocks;
  } nets[] = {{"resnet20", 3}, {"resnet32", 5}, {"resnet44", 7}, {"resnet56", 9}, {"resnet110", 18}};
  for (const auto& net : nets) {
    CAPTURE(net.name);
    CHECK(in_files(*models::create(net.name)) == published_resnet(net.blocks));
  }
}

TEST_CASE("models: a published ResNet loads by its names") {
  if (data_folder().empty()) SKIP(missing_data());
  const auto model = models::create("resnet20");
  const Safetensors file(data_folder() + "/weights/resnet20-cifar10.safetensors");
  load_weights(*model, file);
  // One value in the middle of a kernel, to see that the layout is turned the right way round.
  std::vector<float> stored(16 * 3 * 3 * 3);
  file.read(*file.find("conv1.weight"), DType::f32, reinterpret_cast<std::byte*>(stored.data()), 4 * stored.size());
  const Tensor& weight = *model->tensors()[0].tensor;
  CHECK(weight.at(((5 * 3 + 2) * 3 + 1) * 3 + 0) == stored[((5 * 3 + 0) * 3 + 2) * 3 + 1]);
  CHECK(weight.at(((7 * 3 + 0) * 3 + 2) * 3 + 2) == stored[((7 * 3 + 2) * 3 + 0) * 3 + 2]);
}

TEST_CASE("models: SqueezeNet has torchvision's tensors, or those of the original files") {
  const int squeeze[] = {16, 16, 32, 32, 48, 48, 64, 64}, place[] = {3, 4, 5, 7, 8, 9, 10, 12};
  for (const bool caffe : {false, true}) {
    Tensors expected;
    const auto conv = [&](const std::string& name, int64_t out, int64_t in, int64_t kernel) {
      expected.emplace(name + ".weight", Shape{out, in, kernel, kernel});
      expected.emplace(name + ".bias", Shape{out});
    };
    conv(caffe ? "conv1" : "features.0", 96, 3, 7);
    conv(caffe ? "conv_final" : "classifier.1", 1000, 512, 1);
    for (int i = 0, in = 96; i < 8; in = 8 * squeeze[i++]) {
      const std::string fire = caffe ? concat("fire", i + 2, ".") : concat("features.", place[i], ".");
      conv(fire + (caffe ? "conv1x1_1" : "squeeze"), squeeze[i], in, 1);
      conv(fire + (caffe ? "conv1x1_2" : "expand1x1"), 4 * squeeze[i], squeeze[i], 1);
      conv(fire + (caffe ? "conv3x3_2" : "expand3x3"), 4 * squeeze[i], squeeze[i], 3);
    }
    CHECK(in_files(*models::create(caffe ? "squeezenet1_0_caffe" : "squeezenet1_0", {.classes = 1000})) == expected);
  }
}

TEST_CASE("models: ConvNeXt-T has the official tensors, 28,589,128 values") {
  Tensors expected{{"downsample_layers.0.0.weight", {96, 3, 4, 4}},
                   {"downsample_layers.0.0.bias", {96}},
                   {"downsample_layers.0.1.weight", {96}},
                   {"downsample_layers.0.1.bias", {96}},
                   {"norm.weight", {768}},
                   {"norm.bias", {768}},
                   {"head.weight", {1000, 768}},
                   {"head.bias", {1000}}};
  const int64_t widths[] = {96, 192, 384, 768}, depths[] = {3, 3, 9, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t width = widths[stage];
    if (stage > 0) {
      const std::string name = concat("downsample_layers.", stage, ".");
      for (const char* part : {"weight", "bias"}) expected.emplace(concat(name, "0.", part), Shape{width / 2});
      expected.emplace(name + "1.weight", Shape{width, width / 2, 2, 2});
      expected.emplace(name + "1.bias", Shape{width});
    }
    for (int block = 0; block < depths[stage]; ++block) {
      const std::string name = concat("stages.", stage, ".", block, ".");
      for (const char* part : {"gamma", "dwconv.bias", "norm.weight", "norm.bias", "pwconv2.bias"})
        expected.emplace(name + part, Shape{width});
      expected.emplace(name + "dwconv.weight", Shape{width, 1, 7, 7});
      expected.emplace(name + "pwconv1.weight", Shape{4 * width, width});
      expected.emplace(name + "pwconv1.bias", Shape{4 * width});
      expected.emplace(name + "pwconv2.weight", Shape{width, 4 * width});
    }
  }
  const auto model = models::info("convnext_tiny").make({.classes = 1000});
  CHECK(in_files(*model) == expected);
  CHECK(parameter_count(*model) == 28589128);
}

TEST_CASE("models: every entry of the registry is complete") {
  std::set<std::string> names;
  for (const ModelInfo& info : models::all()) {
    CAPTURE(info.name);
    CHECK(names.insert(info.name).second);
    CHECK(info.summary.find('\n') == std::string::npos);
    const Preprocessing preprocessing = Preprocessing::parse(info.preprocessing);
    CHECK(Shape{preprocessing.height, preprocessing.width, preprocessing.channels()} == info.image);
    const auto model = info.make({.classes = 7});
    CHECK(set_trainable(*model, info.head + ".*", true) >= 2);  // at least a weight and a bias
    for (const Recipe& recipe : {info.train, info.adapt}) {
      CHECK((recipe.optimizer == "sgd" || recipe.optimizer == "adamw"));
      CHECK((recipe.schedule == "constant" || recipe.schedule == "cosine"));
      CHECK(recipe.learning_rate > 0);
    }
    CHECK(&models::info(info.name) == &info);
  }
  CHECK_THROWS_WITH_AS(models::info("resnet21"), doctest::Contains("resnet21"), UsageError);
}

TEST_CASE("models: every one runs forward and backward, in both modes, with the same bits under every policy") {
  for (const ModelInfo& info : models::all()) {
    if (info.name == "resnet32" || info.name == "resnet44" || info.name == "resnet56" || info.name == "resnet110")
      continue;  // resnet20's code, only longer
    CAPTURE(info.name);
    // A corner is enough of what is made for large images: SqueezeNet's last map still has a pixel then.
    const Tensor images = random_images(info.image[0] > 32 ? Shape{39, 39, 3} : info.image, 3);
    const Tensor labels = Tensor::from(std::vector<int32_t>{0, 6, 3}, {3});
    std::vector<std::vector<float>> first;
    for (const Checkpoint policy : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks}) {
      CAPTURE(name_of(policy));
      // Narrow copies: full-size ones would take seconds. Three blocks in a row, so that a ResNet's second one leaves
      // its sum to the third. drop_path where the model has it.
      ModelOptions options{.classes = 7, .widths = {8, 16, 16}, .depths = {1, 3, 1}, .drop_path = 0.5};
      if (info.name.ends_with("mlp")) options.widths = {16, 16};
      const auto model = models::create(info.name, options, 4);
      std::vector<std::vector<float>> all;
      {
        Tape tape({.checkpoint = policy, .seed = 1});
        const Tensor loss = cross_entropy((*model)(images), labels);
        CHECK(std::isfinite(loss.item()));
        tape.backward(loss);
      }
      for (const Module::Entry& entry : model->tensors()) {
        CAPTURE(entry.name);
        const Tensor result = entry.buffer ? *entry.tensor : entry.tensor->gradient();
        REQUIRE(result.defined());
        all.push_back(result.to_vector<float>());
      }
      if (!first.empty()) CHECK(all == first);
      first = all;
      model->set_training(false);
      CHECK((*model)(images).shape() == Shape{3, 7});
    }
  }
}

TEST_CASE("models: in a stage of three blocks a ResNet leaves one sum to the next block, where that can make it") {
  const auto model = models::create("resnet20", {.classes = 7, .widths = {8, 16}, .depths = {3, 3}}, 4);
  const Tensor images = random_images({8, 8, 3}, 2), labels = Tensor::from(std::vector<int32_t>{0, 6}, {2});
  for (const bool frozen : {false, true}) {
    for (const auto& [name, module] : model->modules())
      if (auto* norm = dynamic_cast<BatchNorm*>(module); norm && name.ends_with("1.bn2")) norm->freeze(frozen);
    Tape tape({.checkpoint = Checkpoint::none});
    tape.backward(cross_entropy((*model)(images), labels));
    std::vector<std::string> made;
    for (const Node& node : tape.nodes())
      if (node.op == &batch_norm_relu_conv2d_op && node.inputs[5] >= 0) made.push_back(node.scope);
    CHECK(made == (frozen ? std::vector<std::string>{} : std::vector<std::string>{"layer1.2.conv1", "layer2.2.conv1"}));
  }
}

}  // namespace parabola::models_test
