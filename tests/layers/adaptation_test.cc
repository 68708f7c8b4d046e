// Adapters in training: what they can learn that a linear one cannot, and what stays as it was.
#include <cmath>
#include <cstring>

#include "engine/core/random.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/tape.h"
#include "layers/adapter.h"
#include "layers/models/models.h"
#include "optim/adamw.h"
#include "tests/support/test.h"

namespace parabola::adaptation_test {
namespace {

struct Points {
  Tensor positions, labels;  // [n, 2], [n]
};

// Points of the square [-1, 1]² in two classes: inside and outside of a tilted ellipse of half its area.
Points conic(int64_t count, uint32_t item) {
  constexpr double half_axes[] = {0.98, 0.65};  // π · 0.98 · 0.65 = 2.0 of the square's 4
  const double tilt = 0.5;
  std::vector<float> positions;
  std::vector<int32_t> labels;
  Random random({.seed = 3, .stream = Stream::test, .item = item});
  for (int64_t i = 0; i < count; ++i) {
    const double x = random.uniform(-1, 1), y = random.uniform(-1, 1);
    const double along = (x * std::cos(tilt) + y * std::sin(tilt)) / half_axes[0];
    const double across = (y * std::cos(tilt) - x * std::sin(tilt)) / half_axes[1];
    positions.insert(positions.end(), {static_cast<float>(x), static_cast<float>(y)});
    labels.push_back(along * along + across * across < 1 ? 1 : 0);
  }
  return {Tensor::from(positions, {count, 2}), Tensor::from(labels, {count})};
}

void train(Module& model, const Tensor& inputs, const Tensor& labels, int steps, double learning_rate) {
  AdamW optimizer(trainable(model), {.lr = learning_rate});
  for (int step = 0; step < steps; ++step) {
    {
      Tape tape;
      tape.backward(cross_entropy(model(inputs), labels));
    }
    optimizer.step();
  }
}

double accuracy(Module& model, const Points& points) {
  const Tensor logits = model(points.positions);
  int64_t right = 0;
  for (int64_t i = 0; i < points.labels.elements(); ++i)
    right += (logits.at(2 * i + 1) > logits.at(2 * i)) == (points.labels.at(i) == 1);
  return static_cast<double>(right) / static_cast<double>(points.labels.elements());
}

class OneLayer final : public Module {
 public:
  OneLayer() : layer_(2, 2) { add("layer", layer_); }

 private:
  Tensor forward(const Tensor& x) override { return layer_(x); }
  Linear layer_;
};

struct Bytes {
  std::string name;
  std::vector<std::byte> values;
  bool operator==(const Bytes&) const = default;
};
std::vector<Bytes> bytes_of(const Module& model, std::string_view pattern) {
  std::vector<Bytes> all;
  for (const Module::Entry& entry : model.tensors())
    if (matches(pattern, entry.name))
      all.push_back({entry.name, {entry.tensor->raw(), entry.tensor->raw() + entry.tensor->bytes()}});
  return all;
}
std::vector<Bytes> bytes_of_base(const Module& model) {
  std::vector<Bytes> all = bytes_of(model, "*");
  std::erase_if(all, [](const Bytes& tensor) { return matches("*.adapter.*", tensor.name); });
  return all;
}

}  // namespace

TEST_CASE("adaptation: a conic boundary needs the quadratic term (acceptance 10)") {
  const Points learnt = conic(1000, 0), unseen = conic(2000, 1);
  const auto adapted = [&](const AdapterOptions& options, int64_t* parameters) {
    OneLayer model;
    model.initialize(1);
    train(model, learnt.positions, learnt.labels, 100, 0.05);  // stage 1: the best first-order layer
    set_trainable(model, "layer.weight", false);
    attach_adapters(model, options, 1);
    *parameters = parameter_count(model, true);
    train(model, learnt.positions, learnt.labels, 400, 0.05);
    return accuracy(model, unseen);
  };
  int64_t quadratic_parameters = 0, lora_parameters = 0;
  const double quadratic = adapted({.match = "layer"}, &quadratic_parameters);
  const double lora = adapted({.method = "lora", .match = "layer"}, &lora_parameters);
  CHECK(quadratic_parameters == lora_parameters);
  CHECK(quadratic > 0.98);
  CHECK(lora < 0.85);
}

TEST_CASE("adaptation: the frozen base is bitwise unchanged by training, and detaching gives it back (acceptance 8)") {
  for (const char* name : {"resnet20", "convnext_cifar", "mlp"})
    for (const char* method : {"quadratic", "lora"}) {
      CAPTURE(name);
      CAPTURE(method);
      const ModelInfo& info = models::info(name);
      const bool is_mlp = info.name == "mlp";
      const auto model = models::create(name, {.widths = {8, 8, 8}, .depths = {1, 1, 1}}, 2);
      const Tensor images =
          Tensor::empty({4, info.image[0], info.image[1], info.image[2]}, DType::f32, Category::inputs);
      Random random({.seed = 1, .stream = Stream::test});
      for (float& value : images.span<float>()) value = random.uniform(-1, 1);
      const Tensor labels = Tensor::from(std::vector<int32_t>{0, 1, 2, 3}, {4});

      // ConvNeXt's layer scale starts at 1e-6, where a change of its branch is lost in rounding.
      for (const Module::Entry& entry : model->tensors())
        if (entry.name.ends_with("gamma")) entry.tensor->copy_from(Tensor::full(entry.tensor->shape(), 1));
      model->set_training(false);  // BatchNorm's statistics belong to the frozen base
      const std::vector<float> logits = (*model)(images).to_vector<float>();
      const std::vector<Bytes> base = bytes_of_base(*model);
      set_trainable(*model, "*", false);
      AdapterOptions options{.method = method};
      if (is_mlp) options.match = "q.*";
      attach_adapters(*model, options, 1);
      const std::vector<Bytes> adapters = bytes_of(*model, "*.adapter.*");
      train(*model, images, labels, 3, 0.01);

      CHECK(bytes_of_base(*model) == base);
      // After three steps every factor has moved, the one that had no gradient in the first step too.
      const std::vector<Bytes> moved = bytes_of(*model, "*.adapter.*");
      REQUIRE(moved.size() == adapters.size());
      for (size_t i = 0; i < moved.size(); ++i) CHECK_MESSAGE(moved[i] != adapters[i], moved[i].name);
      CHECK((*model)(images).to_vector<float>() != logits);
      detach_adapters(*model);
      CHECK(bytes_of(*model, "*") == base);
      CHECK((*model)(images).to_vector<float>() == logits);
    }
}

}  // namespace parabola::adaptation_test
