// Adapters: the start that leaves the base as it is, sizes, placement, removal. The acceptance tests of the method
// (docs/method.md) that concern layers are marked with their number there; those of the formulas are in tests/ops.
#include "layers/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/core/random.h"
#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/tape/tape.h"
#include "layers/models/models.h"
#include "tests/support/test.h"

namespace parabola::adapter_test {
namespace {

// A model of one layer, "host".
class OneLayer final : public Module {
 public:
  explicit OneLayer(std::unique_ptr<Host> host) : host_(std::move(host)) { add("host", *host_); }
  Host& host() { return *host_; }

 private:
  Tensor forward(const Tensor& x) override { return (*host_)(x); }
  std::unique_ptr<Host> host_;
};

struct HostCase {
  std::string name;
  std::function<std::unique_ptr<Host>()> make;
  Shape input;
  std::vector<AdapterForm> forms;
};

const std::vector<HostCase>& host_cases() {
  using enum AdapterForm;
  const auto conv = [](const Conv2dOptions& options) {
    return [options] { return std::make_unique<Conv2d>(options); };
  };
  static const std::vector<HostCase> cases = {
      {"linear", [] { return std::make_unique<Linear>(6, 5); }, {7, 6}, {neuron_wise, lora}},
      {"linear without bias", [] { return std::make_unique<Linear>(6, 5, false); }, {2, 3, 6}, {neuron_wise, lora}},
      {"full", conv({.in = 4, .out = 6, .kernel = 3, .padding = 1}), {2, 7, 5, 4}, {neuron_wise, shared, lora}},
      {"full, stride 2, no bias",
       conv({.in = 3, .out = 5, .kernel = 3, .stride = 2, .padding = 1, .bias = false}),
       {2, 8, 7, 3},
       {neuron_wise, shared, lora}},
      {"full, dilation 2",
       conv({.in = 3, .out = 4, .kernel = 3, .padding = 2, .dilation = 2}),
       {1, 9, 8, 3},
       {neuron_wise, shared, lora}},
      {"1x1", conv({.in = 8, .out = 3, .kernel = 1}), {2, 4, 4, 8}, {neuron_wise, shared, lora}},
      {"grouped", conv({.in = 6, .out = 4, .kernel = 3, .padding = 1, .groups = 2}), {2, 6, 5, 6}, {neuron_wise, lora}},
      {"depthwise 7x7",
       conv({.in = 9, .out = 9, .kernel = 7, .padding = 3, .groups = 9}),
       {2, 9, 10, 9},
       {neuron_wise, lora}},
      {"depthwise 5x5, stride 2, no bias",
       conv({.in = 4, .out = 4, .kernel = 5, .stride = 2, .padding = 2, .groups = 4, .bias = false}),
       {2, 8, 9, 4},
       {neuron_wise, lora}},
  };
  return cases;
}

Tensor random_tensor(const Shape& shape, uint32_t item = 0) {
  const Tensor tensor = Tensor::empty(shape, DType::f32, Category::inputs);
  Random random({.seed = 9, .stream = Stream::test, .item = item});
  for (float& value : tensor.span<float>()) value = static_cast<float>(random.normal());
  return tensor;
}

std::unique_ptr<OneLayer> make_layer(const HostCase& host) {
  auto model = std::make_unique<OneLayer>(host.make());
  model->initialize(1);
  return model;
}

AdapterSpec spec_of(const Host& host, AdapterForm form, int rank = 2) {
  const auto* conv = dynamic_cast<const Conv2d*>(&host);
  AdapterSpec spec{.layer = "host", .form = form, .rank = rank, .scale = 0.5};
  if (!conv) return spec;
  const Conv2dOptions& options = conv->options();
  const bool atrous = options.depthwise();
  spec.kernel = atrous ? 3 : options.kernel;
  spec.dilation = atrous ? (options.kernel - 1) / 2 : options.dilation;
  return spec;
}

// Calls body(case, form) with both in doctest's context.
template <class Body>
void for_each_host_and_form(Body&& body) {
  for (const HostCase& host : host_cases())
    for (const AdapterForm form : host.forms) {
      CAPTURE(host.name);
      CAPTURE(name_of(form));
      body(host, form);
    }
}

bool all_zero(const Tensor& tensor) {
  return std::ranges::all_of(tensor.span<float>(), [](float value) { return value == 0; });
}

void randomize(const Module& module) {
  uint32_t item = 100;
  for (const Module::Entry& entry : module.tensors())
    entry.tensor->copy_from(random_tensor(entry.tensor->shape(), item++));
}

std::vector<Tensor> copies(const Module& module) {
  std::vector<Tensor> tensors;
  for (const Module::Entry& entry : module.tensors()) tensors.push_back(entry.tensor->clone(Category::inputs));
  return tensors;
}

bool same_bits(const Tensor& left, const Tensor& right) {
  return left.shape() == right.shape() && std::memcmp(left.raw(), right.raw(), left.bytes()) == 0;
}

constexpr Checkpoint policies[] = {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks};

}  // namespace

TEST_CASE("adapter: a new one leaves the layer's output as it is, in every element (acceptance 1)") {
  for_each_host_and_form([](const HostCase& host, AdapterForm form) {
    const auto model = make_layer(host);
    const Tensor x = random_tensor(host.input);
    const std::vector<float> base = (*model)(x).to_vector<float>();
    attach_adapters(*model, {spec_of(model->host(), form)}, 3);
    CHECK((*model)(x).to_vector<float>() == base);
    for (const Checkpoint policy : policies) {
      Tape tape({.checkpoint = policy});
      CHECK((*model)(x).to_vector<float>() == base);
    }
  });
}

TEST_CASE("adapter: whole models start as their base, in both modes (acceptance 1)") {
  for (const char* name : {"resnet20", "convnext_cifar", "qresnet14", "mlp"})
    for (const char* method : {"quadratic", "lora"}) {
      CAPTURE(name);
      CAPTURE(method);
      const ModelInfo& info = models::info(name);
      const bool is_mlp = info.name == "mlp";
      const std::vector<int> widths = is_mlp ? std::vector<int>{16, 16} : std::vector<int>{8, 16, 16};
      const auto model = models::create(name, {.widths = widths, .depths = {1, 1, 1}}, 2);
      const Tensor x = random_tensor({2, info.image[0], info.image[1], info.image[2]});
      const std::vector<float> train = (*model)(x).to_vector<float>();
      AdapterOptions options{.method = method};
      if (is_mlp) options.match = "q.*";
      attach_adapters(*model, options, 1);
      CHECK((*model)(x).to_vector<float>() == train);
      model->set_training(false);
      const std::vector<float> adapted = (*model)(x).to_vector<float>();
      detach_adapters(*model);
      CHECK((*model)(x).to_vector<float>() == adapted);
    }
}

TEST_CASE("adapter: at the start only the zero factor has a gradient (acceptance 2)") {
  for_each_host_and_form([](const HostCase& host, AdapterForm form) {
    const auto model = make_layer(host);
    attach_adapters(*model, {spec_of(model->host(), form)}, 3);
    {
      Tape tape;
      const Tensor y = (*model)(random_tensor(host.input));
      tape.backward(sum(y * random_tensor(y.shape(), 1)));
    }
    for (const Module::Entry& entry : model->host().adapter()->tensors()) {
      CAPTURE(entry.name);
      REQUIRE(entry.tensor->gradient().defined());
      const bool starts_at_zero = entry.name == "a" || entry.name == "p" || entry.name == "up";
      CHECK(all_zero(*entry.tensor) == starts_at_zero);
      CHECK(all_zero(entry.tensor->gradient()) == !starts_at_zero);
    }
  });
}

TEST_CASE("adapter: every policy gives the same bits (acceptance 6)") {
  for_each_host_and_form([](const HostCase& host, AdapterForm form) {
    const auto model = make_layer(host);
    attach_adapters(*model, {spec_of(model->host(), form)}, 3);
    randomize(*model->host().adapter());
    std::vector<std::vector<float>> first;
    for (const Checkpoint policy : policies) {
      std::vector<std::vector<float>> all;
      {
        Tape tape({.checkpoint = policy});
        const Tensor y = (*model)(random_tensor(host.input));
        all.push_back(y.to_vector<float>());
        tape.backward(sum(y * random_tensor(y.shape(), 1)));
      }
      for (const Tensor& parameter : trainable(*model)) {
        all.push_back(parameter.gradient().to_vector<float>());
        parameter.zero_gradient();
      }
      if (!first.empty()) CHECK(all == first);
      first = all;
    }
  });
}

TEST_CASE("adapter: between forward and backward x stays, or x, a and b (acceptance 7)") {
  for (const HostCase& host : host_cases())
    for (const AdapterForm form : host.forms) {
      if (form == AdapterForm::lora) continue;  // a composition of plain layers, whose ops say what they keep
      for (const int rank : {1, 2, 3}) {
        CAPTURE(host.name);
        CAPTURE(name_of(form));
        CAPTURE(rank);
        const auto model = make_layer(host);
        attach_adapters(*model, {spec_of(model->host(), form, rank)}, 3);
        const Tensor leaf = random_tensor(host.input);
        const Tensor y = (*model)(leaf);
        // N elements of x, M of a branch's output: PAPER 4.1's two schemes. The shared form has 2 r products in all.
        const int64_t n = leaf.elements(), outputs = y.shape()[y.shape().rank() - 1], rows = y.elements() / outputs;
        const int64_t products = form == AdapterForm::shared ? 2 * rank * rows : rank * y.elements();
        const struct {
          Checkpoint policy;
          int64_t elements;
        } expected[] = {{Checkpoint::standard, n}, {Checkpoint::none, n + 2 * products}};
        for (const auto& kept : expected) {
          CAPTURE(name_of(kept.policy));
          const size_t before = Memory::of({}).activation_bytes();
          Tape tape({.checkpoint = kept.policy});
          const PolicyScope keep_x(Policy::save);  // else the relu before would count as nothing, being recomputed
          const Tensor loss = sum((*model)(relu(leaf)));
          CHECK(Memory::of({}).activation_bytes() - before == sizeof(float) * static_cast<size_t>(kept.elements + 1));
        }
      }
    }
}

TEST_CASE("adapter: sizes are those of the paper's table on ConvNeXt (acceptance 9)") {
  struct Network {
    const char* name;
    std::vector<int> depths;
    int width;
    int64_t widths, atrous, dense;  // sum of block widths; parameters per rank with 3x3 and with 7x7
  };
  const Network networks[] = {{"T", {3, 3, 9, 3}, 96, 6624, 119232, 649152},
                              {"S", {3, 3, 27, 3}, 96, 13536, 243648, 1326528},
                              {"B", {3, 3, 27, 3}, 128, 18048, 324864, 1768704},
                              {"L", {3, 3, 27, 3}, 192, 27072, 487296, 2653056},
                              {"XL", {3, 3, 27, 3}, 256, 36096, 649728, 3537408}};
  for (const Network& network : networks) {
    CAPTURE(network.name);
    int64_t widths = 0, atrous = 0, dense = 0;
    for (size_t stage = 0; stage < 4; ++stage) {
      const int width = network.width << stage;
      const Conv2d host({.in = width, .out = width, .kernel = 7, .padding = 3, .groups = width});
      widths += network.depths[stage] * width;
      atrous += network.depths[stage] * adapter_parameters(host, {.rank = 1, .kernel = 3, .dilation = 3});
      dense += network.depths[stage] * adapter_parameters(host, {.rank = 1, .kernel = 7, .dilation = 1});
    }
    CHECK(widths == network.widths);
    CHECK(atrous == network.atrous);
    CHECK(dense == network.dense);
  }
  // The same through the planner, on a T of a sixteenth of the width.
  const auto model = models::create("convnext_cifar", {.widths = {6, 12, 24, 48}, .depths = {3, 3, 9, 3}});
  const int64_t base = parameter_count(*model);
  for (const int rank : {1, 2, 4}) {
    attach_adapters(*model, {.rank = rank});
    CHECK(parameter_count(*model) - base == rank * 119232 / 16);
    detach_adapters(*model);
  }
  CHECK(parameter_count(*model) == base);
}

TEST_CASE("adapter: sizes of the other forms (acceptance 9)") {
  // PAPER 1.2 and 2.3: 2 r K k² C neuron-wise, 2 q k² C + q K shared with q = 2 r; k² C w + K w for lora.
  const Conv2d full({.in = 16, .out = 32, .kernel = 3, .padding = 1});
  CHECK(adapter_parameters(full, {.form = AdapterForm::neuron_wise, .rank = 2, .kernel = 3}) == 2 * 2 * 32 * 9 * 16);
  CHECK(adapter_parameters(full, {.form = AdapterForm::shared, .rank = 2, .kernel = 3}) == 2 * 4 * 9 * 16 + 4 * 32);
  CHECK(adapter_parameters(full, {.form = AdapterForm::lora, .rank = 7, .kernel = 3}) == 7 * (9 * 16 + 32));
  const Conv2d grouped({.in = 16, .out = 32, .kernel = 3, .padding = 1, .groups = 4});
  CHECK(adapter_parameters(grouped, {.form = AdapterForm::neuron_wise, .rank = 2, .kernel = 3}) == 2 * 2 * 32 * 9 * 4);
  const Linear linear(100, 10);
  CHECK(adapter_parameters(linear, {.form = AdapterForm::neuron_wise, .rank = 4}) == 2 * 4 * 10 * 100);
  CHECK(adapter_parameters(linear, {.form = AdapterForm::lora, .rank = 4}) == 4 * (10 + 100));
  // PAPER section 10's table: ResNet-20 with q = 4 on every 3x3 and the head.
  const auto resnet = models::create("resnet20");
  int64_t sum = 650;
  for (const AdapterSpec& spec : plan_adapters(*resnet, {}))
    for (auto& [name, module] : resnet->modules())
      if (name == spec.layer) sum += adapter_parameters(dynamic_cast<Host&>(*module), spec);
  CHECK(sum == 48546);
}

TEST_CASE("adapter: goes to depthwise convolutions where there are any, else to those larger than 1x1") {
  const auto convnext = models::create("convnext_cifar", {.widths = {4, 8}, .depths = {1, 2}});
  CHECK(default_hosts(*convnext) ==
        std::vector<std::string>{"stages.0.0.dwconv", "stages.1.0.dwconv", "stages.1.1.dwconv"});
  const auto resnet = models::create("resnet20", {.widths = {4, 8}, .depths = {1, 1}});
  CHECK(default_hosts(*resnet) ==
        std::vector<std::string>{"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2"});
  const auto quadratic = models::create("qresnet14", {.widths = {4, 8}, .depths = {1, 1}});
  CHECK(default_hosts(*quadratic) == std::vector<std::string>{"conv1"});  // not the 1x1 of the shortcut
}

TEST_CASE("adapter: defaults of rank, kernel, dilation and scale follow the host") {
  const auto convnext = models::create("convnext_cifar", {.widths = {4}, .depths = {1}});
  const AdapterSpec depthwise = plan_adapters(*convnext, {})[0];
  CHECK(depthwise.form == AdapterForm::neuron_wise);
  CHECK(depthwise.rank == 2);
  CHECK(depthwise.kernel == 3);
  CHECK(depthwise.dilation == 3);  // spans the 7x7 window
  CHECK(depthwise.scale == 0.5);
  const AdapterSpec dense = plan_adapters(*convnext, {.rank = 4, .kernel = 7})[0];
  CHECK(dense.dilation == 1);
  CHECK(dense.scale == 0.25);
  CHECK(plan_adapters(*convnext, {.dilation = 1, .scale = 2})[0].scale == 2);

  const AdapterSpec linear = plan_adapters(*convnext, {.match = "*.pwconv1", .rank = 8})[0];
  CHECK(linear.layer == "stages.0.0.pwconv1");
  CHECK(linear.form == AdapterForm::neuron_wise);
  CHECK(linear.scale == 0.125);

  const auto resnet = models::create("resnet20", {.widths = {4}, .depths = {1}});
  const AdapterSpec full = plan_adapters(*resnet, {})[0];
  CHECK(full.form == AdapterForm::shared);
  CHECK(full.rank == 2);
  CHECK(full.kernel == 3);
  CHECK(full.dilation == 1);
  CHECK(full.scale == 1);
}

TEST_CASE("adapter: factors start as PAPER section 9 says") {
  const auto deviation = [](const Tensor& tensor) {
    double squares = 0;
    for (const float value : tensor.span<float>()) squares += static_cast<double>(value) * value;
    return std::sqrt(squares / static_cast<double>(tensor.elements()));
  };
  OneLayer linear(std::make_unique<Linear>(100, 50));
  attach_adapters(linear, {AdapterSpec{.layer = "host", .rank = 4}}, 1);
  CHECK(deviation(*linear.host().adapter()->tensors()[1].tensor) == doctest::Approx(0.02).epsilon(0.03));

  OneLayer full(std::make_unique<Conv2d>(Conv2dOptions{.in = 64, .out = 64, .kernel = 3, .padding = 1}));
  attach_adapters(full, {AdapterSpec{.layer = "host", .form = AdapterForm::shared, .rank = 8, .kernel = 3}}, 1);
  const auto factors = full.host().adapter()->tensors();
  for (size_t i = 0; i < 2; ++i) CHECK(deviation(*factors[i].tensor) == doctest::Approx(1 / 24.0).epsilon(0.03));
  CHECK(factors[0].tensor->to_vector<float>() != factors[1].tensor->to_vector<float>());
}

TEST_CASE("adapter: the draws of one layer do not depend on which others have adapters") {
  const auto factors_of = [](const AdapterOptions& options, uint64_t seed) {
    const auto model = models::create("resnet20", {.widths = {4}, .depths = {1}});
    attach_adapters(*model, options, seed);
    for (const Module::Entry& entry : model->tensors())
      if (entry.name == "layer1.0.conv2.adapter.u") return entry.tensor->to_vector<float>();
    return std::vector<float>();
  };
  const std::vector<float> all = factors_of({}, 7);
  CHECK_FALSE(all.empty());
  CHECK(factors_of({.match = "layer1.0.conv2"}, 7) == all);
  CHECK(factors_of({}, 8) != all);
  // Two layers of the same shape start differently.
  const auto model = models::create("resnet20", {.widths = {4}, .depths = {1}});
  attach_adapters(*model, AdapterOptions{}, 7);
  std::vector<std::vector<float>> seen;
  for (const Module::Entry& entry : model->tensors())
    if (entry.name.ends_with("conv1.adapter.u") || entry.name.ends_with("conv2.adapter.u"))
      seen.push_back(entry.tensor->to_vector<float>());
  REQUIRE(seen.size() == 3);
  CHECK(seen[1] != seen[2]);
}

TEST_CASE("adapter: lora's widths bring it within 2 % of the quadratic default") {
  for (const ModelInfo& info : models::all()) {
    if (info.name.ends_with("mlp") || info.name.starts_with("q")) continue;  // no convolution larger than 1x1, or one
    CAPTURE(info.name);
    const auto model = models::create(info.name);
    set_trainable(*model, "*", false);
    set_trainable(*model, info.head + ".*", true);
    const int64_t head = parameter_count(*model, true);
    const auto trained_with = [&](const char* method) {
      const std::vector<AdapterSpec> specs = plan_adapters(*model, {.method = method}, head);
      attach_adapters(*model, specs, 1);
      const int64_t count = parameter_count(*model, true);
      detach_adapters(*model);
      return static_cast<double>(count);
    };
    const double quadratic = trained_with("quadratic"), lora = trained_with("lora");
    CHECK(std::abs(lora - quadratic) <= 0.02 * quadratic);
  }
}

TEST_CASE("adapter: detaching gives the base back bit for bit") {
  for_each_host_and_form([](const HostCase& host, AdapterForm form) {
    const auto model = make_layer(host);
    const Tensor x = random_tensor(host.input);
    const Tensor base = (*model)(x);
    const std::vector<Tensor> before = copies(*model);
    attach_adapters(*model, {spec_of(model->host(), form)}, 3);
    randomize(*model->host().adapter());
    CHECK_FALSE(same_bits((*model)(x), base));
    detach_adapters(*model);
    CHECK(model->host().adapter() == nullptr);
    CHECK(same_bits((*model)(x), base));
    const std::vector<Tensor> after = copies(*model);
    CHECK(std::ranges::equal(before, after, same_bits));
    attach_adapters(*model, {spec_of(model->host(), form)}, 3);  // and there is room for another
  });
}

TEST_CASE("adapter: tensors appear below their layer and are turned for files") {
  const auto model = models::create("convnext_cifar", {.widths = {4}, .depths = {1}});
  attach_adapters(*model, {.rank = 3});
  std::map<std::string, Shape> in_files;
  for (const Module::Entry& entry : model->tensors())
    if (matches("*.adapter.*", entry.name))
      in_files.emplace(entry.name, file_shape(entry.tensor->shape(), entry.layout));
  CHECK(in_files == std::map<std::string, Shape>{{"stages.0.0.dwconv.adapter.a", {12, 1, 3, 3}},
                                                 {"stages.0.0.dwconv.adapter.b", {12, 1, 3, 3}}});
}

TEST_CASE("adapter: what cannot be attached is refused with the layer's name, and nothing changes") {
  const auto model = models::create("convnext_cifar", {.widths = {4}, .depths = {1}});
  const auto names = [&] {
    std::vector<std::string> all;
    for (const Module::Entry& entry : model->tensors()) all.push_back(entry.name);
    return all;
  };
  const auto refused = [&](const std::vector<AdapterSpec>& specs, const char* about) {
    const auto before = names();
    CHECK_THROWS_WITH_AS(attach_adapters(*model, specs, 1), doctest::Contains(about), UsageError);
    CHECK(names() == before);
  };
  const auto not_planned = [&](const AdapterOptions& options, const char* about) {
    CHECK_THROWS_WITH_AS(plan_adapters(*model, options), doctest::Contains(about), UsageError);
  };
  refused({{.layer = "no.such.layer"}}, "no.such.layer");
  refused({{.layer = "norm"}}, "norm");  // there, but neither linear nor convolution
  refused({{.layer = "head", .form = AdapterForm::shared}}, "head");
  refused({{.layer = "stages.0.0.dwconv", .form = AdapterForm::shared, .kernel = 3, .dilation = 3}},
          "stages.0.0.dwconv");
  refused({{.layer = "head"}, {.layer = "no.such.layer"}}, "no.such.layer");
  refused({{.layer = "head"}, {.layer = "head"}}, "head");
  // A window that cannot be centred on the host's 7x7.
  refused({{.layer = "stages.0.0.dwconv", .kernel = 2, .dilation = 1}}, "stages.0.0.dwconv");
  not_planned({.match = "layer9.*"}, "layer9.*");
  not_planned({.kernel = 2, .dilation = 1}, "odd kernel");

  attach_adapters(*model, {.match = "head"});
  refused({{.layer = "head"}}, "head");
  CHECK_THROWS_WITH_AS(attach_adapters(*model, {.match = "*"}), doctest::Contains("adapter already"), UsageError);
}

TEST_CASE("adapter: a model without a fitting layer says so") {
  const auto model = models::create("qmlp", {.widths = {4, 4}});
  CHECK_THROWS_WITH_AS(plan_adapters(*model, {}), doctest::Contains("no convolution"), UsageError);
}

}  // namespace parabola::adapter_test
