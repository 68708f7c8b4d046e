// Whole nets against PyTorch, on the device that PARABOLA_TEST_DEVICE names. What the files hold and where the
// tolerances come from: tests/golden/README.md.
#include <cmath>
#include <cstring>
#include <map>

#include "engine/core/thread_pool.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/solver.h"
#include "engine/tape/tape.h"
#include "layers/adapter.h"
#include "layers/models/models.h"
#include "layers/weights.h"
#include "optim/adamw.h"
#include "tests/ops/harness.h"
#include "tests/support/json.h"
#include "tests/support/test.h"

namespace parabola::golden_test {
namespace {

struct GoldenNet {
  std::string file, model;
  std::vector<int> widths, depths;
  bool adapters = false;
  bool training = true;  // mode of the BatchNorms
};

// Tensors by name as doubles in the file's layout. Every float is a double, so equal bytes here are equal bits there.
using Values = std::map<std::string, test::Array>;

bool same_bits(const Values& left, const Values& right) {
  return std::ranges::equal(left, right, [](const auto& l, const auto& r) {
    return l.first == r.first && l.second.size() == r.second.size() &&
           std::memcmp(l.second.data(), r.second.data(), l.second.size() * sizeof(double)) == 0;
  });
}

test::Array in_file_layout(const Tensor& tensor, FileLayout layout) {
  const Tensor wide = tensor.on_cpu().to(DType::f64, Category::inputs);
  test::Array values(static_cast<size_t>(wide.elements()));
  to_file(wide.shape(), layout, sizeof(double), wide.raw(), values.data());
  return values;
}

Tensor read(const Safetensors& file, const std::string& name, DType dtype) {
  const TensorEntry* stored = file.find(name);
  REQUIRE_MESSAGE(stored != nullptr, name);
  const Tensor tensor = Tensor::empty(stored->shape, dtype, Category::inputs);
  file.read(*stored, dtype, tensor.raw(), tensor.bytes());
  return tensor;
}

Values read_all(const Safetensors& file, const std::string& folder) {
  Values values;
  for (const TensorEntry& stored : file.entries())
    if (stored.name.starts_with(folder + "/"))
      values[stored.name.substr(folder.size() + 1)] = read(file, stored.name, DType::f64).to_vector<double>();
  return values;
}

// Files hold images as NCHW.
Tensor read_images(const Safetensors& file, DType dtype) {
  const Tensor stored = read(file, "input", dtype);
  const Shape& s = stored.shape();
  if (s.rank() == 2) return stored;
  const Tensor images = Tensor::empty({s[0], s[2], s[3], s[1]}, dtype, Category::inputs);
  from_file(images.shape(), FileLayout::conv, size_of(dtype), stored.raw(), images.raw());
  return images;
}

std::vector<std::string> names_in(const Safetensors& file, const std::string& key) {
  const Json names(file.metadata().at(key));
  return {names.begin(), names.end()};
}

class Run {
 public:
  Run(const GoldenNet& net, const Safetensors& file, DType dtype)
      : model_(models::create(net.model, {.widths = net.widths, .depths = net.depths})),
        images_(read_images(file, dtype).to(test_device(), Category::inputs)),
        labels_(read(file, "labels", DType::i32).to(test_device(), Category::inputs)) {
    if (net.adapters) attach_adapters(*model_, AdapterOptions{});
    model_->set_dtype(dtype);
    model_->set_training(net.training);
    const Values weights = read_all(file, "weights");
    CHECK(weights.size() == model_->tensors().size());
    for (const Module::Entry& entry : model_->tensors()) {
      CAPTURE(entry.name);
      const Tensor stored = read(file, "weights/" + entry.name, dtype);
      REQUIRE(stored.shape() == file_shape(entry.tensor->shape(), entry.layout));
      from_file(entry.tensor->shape(), entry.layout, size_of(dtype), stored.raw(), entry.tensor->raw());
    }
    model_->set_device(test_device());
    set_trainable(*model_, "*", false);
    for (const std::string& name : names_in(file, "trainable")) CHECK(set_trainable(*model_, name, true) == 1);
  }

  // Forward and backward; gradients lie in the parameters. Returns the loss.
  double step(const TapeOptions& options) {
    Memory& memory = Memory::of(test_device());
    memory.reset_peak();
    Tape tape(options);
    const Tensor loss = [&] {
      const Tensor logits = (*model_)(images_);
      output_ = in_file_layout(logits, FileLayout::plain);
      return cross_entropy(logits, labels_);
    }();
    tape.backward(loss);
    CHECK(memory.peak_activation_bytes() <= options.memory_budget);
    return loss.item();
  }

  // For automatic: as planned for the smallest budget that can be kept.
  TapeOptions options_for(Checkpoint policy) {
    if (policy != Checkpoint::automatic) return {.checkpoint = policy};
    const auto loss = [&] { return cross_entropy((*model_)(images_), labels_); };
    const Frontier frontier(loss, test_device());
    const size_t budget = frontier.smallest_budget();
    TapeOptions options{.memory_budget = budget, .plan = frontier.within(budget)->choices};
    options.plan = place_step(options, loss, test_device());
    options.memory_budget += Memory::of(test_device()).activation_bytes();
    return options;
  }

  Module& model() { return *model_; }
  const test::Array& output() const { return output_; }

  Values gradients() const {
    Values values;
    for (const Module::Entry& entry : model_->tensors())
      if (entry.tensor->requires_gradient()) {
        REQUIRE_MESSAGE(entry.tensor->gradient().defined(), entry.name);
        values[entry.name] = in_file_layout(entry.tensor->gradient(), entry.layout);
      }
    return values;
  }
  Values tensors(const std::function<bool(const Module::Entry&)>& keep) const {
    Values values;
    for (const Module::Entry& entry : model_->tensors())
      if (keep(entry)) values[entry.name] = in_file_layout(*entry.tensor, entry.layout);
    return values;
  }

 private:
  std::unique_ptr<Module> model_;
  Tensor images_, labels_;
  test::Array output_;
};

bool is_buffer(const Module::Entry& entry) { return entry.buffer; }
bool is_trained(const Module::Entry& entry) { return !entry.buffer && entry.tensor->requires_gradient(); }
bool is_frozen(const Module::Entry& entry) { return !entry.buffer && !entry.tensor->requires_gradient(); }

double largest(const test::Array& values) {
  double most = 0;
  for (double value : values) most = std::max(most, std::abs(value));
  return most;
}

// Norm-wise per tensor, and absolutely for those of `zero`, whose gradient is rounding.
void check_close(const Values& actual, const Values& expected, double tolerance, const std::vector<std::string>& zero,
                 double zero_tolerance) {
  CHECK(actual.size() == expected.size());
  for (const auto& entry : expected) {
    const std::string& name = entry.first;
    CAPTURE(name);
    REQUIRE(actual.contains(name));
    const test::Array &got = actual.at(name), &values = entry.second;
    REQUIRE(got.size() == values.size());
    if (std::ranges::find(zero, name) == zero.end()) {
      CHECK(test::relative_error(got, values) <= tolerance);
      continue;
    }
    test::Array difference;
    for (size_t i = 0; i < got.size(); ++i) difference.push_back(got[i] - values[i]);
    CHECK(largest(difference) <= zero_tolerance);
  }
}

constexpr Checkpoint policies[] = {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks, Checkpoint::automatic};

void check_step_in_float32(const GoldenNet& net, const Safetensors& file) {
  std::optional<Values> first;
  for (const Checkpoint policy : policies) {
    CAPTURE(name_of(policy));
    Run run(net, file, DType::f32);
    const Values frozen = run.tensors(is_frozen);
    const double loss = run.step(run.options_for(policy));
    const Values gradients = run.gradients(), running = run.tensors(is_buffer);

    CHECK(test::relative_error(run.output(), read(file, "output", DType::f64).to_vector<double>()) <= 1e-4);
    CHECK(loss == doctest::Approx(read(file, "loss", DType::f64).item()).epsilon(1e-4));
    check_close(gradients, read_all(file, "grad"), 1e-4, names_in(file, "zero_gradient"), 1e-6);
    check_close(running, read_all(file, "running"), 1e-5, {}, 0);
    for (const std::string& name : names_in(file, "zero_gradient_bitwise")) {
      CAPTURE(name);
      CHECK(largest(gradients.at(name)) == 0);
    }
    CHECK(same_bits(run.tensors(is_frozen), frozen));

    Values all = gradients;
    all.insert(running.begin(), running.end());
    all["output"] = run.output();
    all["loss"] = {loss};
    if (first) CHECK(same_bits(all, *first));
    first = all;
  }
}

void check_ten_steps_in_float64(const GoldenNet& net, const Safetensors& file) {
  const Json options(file.metadata().at("adamw"));
  const test::Array losses = read(file, "loss64", DType::f64).to_vector<double>();
  REQUIRE(losses.size() == options.at("steps"));
  std::optional<Values> first;
  for (const Checkpoint policy : policies) {
    CAPTURE(name_of(policy));
    Run run(net, file, DType::f64);
    const Values frozen = run.tensors(is_frozen);
    AdamW optimizer(trainable(run.model()), {.lr = options.at("lr"),
                                             .weight_decay = options.at("weight_decay"),
                                             .beta1 = options.at("betas")[0],
                                             .beta2 = options.at("betas")[1],
                                             .epsilon = options.at("eps")});
    const TapeOptions options = run.options_for(policy);
    test::Array got;
    for (size_t i = 0; i < losses.size(); ++i) {
      got.push_back(run.step(options));
      optimizer.step();
    }
    CHECK(test::relative_error(got, losses) <= 1e-9);
    check_close(run.tensors(is_trained), read_all(file, "final"), 1e-9, names_in(file, "zero_gradient"), 1e-8);
    check_close(run.tensors(is_buffer), read_all(file, "final_running"), 1e-9, {}, 0);
    CHECK(same_bits(run.tensors(is_frozen), frozen));

    Values all = run.tensors([](const Module::Entry&) { return true; });
    all["losses"] = got;
    if (first) CHECK(same_bits(all, *first));
    first = all;
  }
}

void check_golden(const GoldenNet& net) {
  const Safetensors file("tests/golden/" + net.file + ".safetensors");
  check_step_in_float32(net, file);
  check_ten_steps_in_float64(net, file);
}

const std::vector<int> widths{4, 8, 16}, depths{1, 1, 1};

}  // namespace

TEST_CASE("golden: qresnet14, with BatchNorm in training mode") {
  check_golden({.file = "qresnet14", .model = "qresnet14", .widths = widths, .depths = depths});
}

TEST_CASE("golden: convnext with adapters") {
  for (const char* file : {"convnext_cifar", "convnext_cifar_frozen", "convnext_cifar_zero_start"}) {
    CAPTURE(file);
    check_golden({.file = file, .model = "convnext_cifar", .widths = widths, .depths = depths, .adapters = true});
  }
}

TEST_CASE("golden: quadranet") {
  check_golden({.file = "quadranet_cifar", .model = "quadranet_cifar", .widths = widths, .depths = depths});
}

TEST_CASE("golden: quadratic MLP") { check_golden({.file = "qmlp", .model = "qmlp", .widths = {8, 8}, .depths = {}}); }

TEST_CASE("golden: resnet20 with shared-factor adapters, BatchNorm in evaluation mode") {
  check_golden({.file = "resnet20",
                .model = "resnet20",
                .widths = widths,
                .depths = depths,
                .adapters = true,
                .training = false});
}

}  // namespace parabola::golden_test
