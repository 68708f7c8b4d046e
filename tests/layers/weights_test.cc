// Models to and from files: strict loading with its report, adapters and their record, other element types.
#include "layers/weights.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "layers/models/models.h"
#include "tests/support/test.h"

namespace parabola::weights_test {
namespace {

std::unique_ptr<Module> small_resnet(uint64_t seed = 1) {
  return models::create("resnet20", {.widths = {4, 8}, .depths = {1, 1}}, seed);
}
std::unique_ptr<Module> small_convnext(uint64_t seed = 1) {
  return models::create("convnext_cifar", {.widths = {4, 8}, .depths = {1, 1}}, seed);
}

std::string new_path() { return scratch_folder() + "/model.safetensors"; }

bool same_tensors(const Module& left, const Module& right) {
  const auto l = left.tensors(), r = right.tensors();
  return std::ranges::equal(l, r, [](const Module::Entry& a, const Module::Entry& b) {
    return a.name == b.name && a.tensor->shape() == b.tensor->shape() &&
           std::memcmp(a.tensor->raw(), b.tensor->raw(), a.tensor->bytes()) == 0;
  });
}

void randomize(const Module& model) {
  Random random({.seed = 5, .stream = Stream::test});
  for (const Module::Entry& entry : model.tensors())
    for (float& value : entry.tensor->span<float>()) value = random.uniform(-1, 1);
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// What loading `path` into `model` complains of; the model must stay as it was. "" where it does not complain.
std::string complaint(Module& model, const std::string& path, const LoadOptions& options = {}) {
  std::vector<std::vector<float>> before, after;
  for (const Module::Entry& entry : model.tensors()) before.push_back(entry.tensor->to_vector<float>());
  std::string message;
  try {
    load_weights(model, path, options);
    return "";
  } catch (const FormatError& error) {
    message = error.what();
  }
  for (const Module::Entry& entry : model.tensors()) after.push_back(entry.tensor->to_vector<float>());
  CHECK(before == after);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(contains(message, path));
  return message;
}

}  // namespace

TEST_CASE("weights: what is saved loads again, every bit of it") {
  const std::string path = new_path();
  for (const ModelInfo& info : models::all()) {
    if (info.name.starts_with("resnet") && info.name != "resnet20") continue;
    CAPTURE(info.name);
    std::vector<int> widths = info.name.ends_with("mlp") ? std::vector<int>{6, 5} : std::vector<int>{4, 8};
    if (info.name.starts_with("squeezenet")) widths.push_back(8);
    const ModelOptions options{.classes = 3, .widths = widths, .depths = {1, 1}};
    const auto model = models::create(info.name, options, 1), other = models::create(info.name, options, 2);
    randomize(*model);
    save_weights(*model, path, {{"format", "pt"}, {"model", info.name}});
    CHECK_FALSE(same_tensors(*model, *other));
    load_weights(*other, path);
    CHECK(same_tensors(*model, *other));
    CHECK(Safetensors(path).metadata().at("model") == info.name);
  }
}

TEST_CASE("weights: files hold PyTorch's layouts") {
  const std::string path = new_path();
  Conv2d conv({.in = 2, .out = 3, .kernel = 3, .bias = false});
  Tensor& weight = *conv.tensors()[0].tensor;  // [K, R, S, C]
  for (int64_t i = 0; i < weight.elements(); ++i) weight.data<float>()[i] = static_cast<float>(i);
  save_weights(conv, path, {});
  const Safetensors file(path);
  const TensorEntry& stored = *file.find("weight");
  CHECK(stored.shape == Shape{3, 2, 3, 3});
  std::vector<float> values(54);
  file.read(stored, DType::f32, reinterpret_cast<std::byte*>(values.data()), 54 * sizeof(float));
  for (size_t k = 0; k < 3; ++k)
    for (size_t c = 0; c < 2; ++c)
      for (size_t r = 0; r < 3; ++r)
        for (size_t s = 0; s < 3; ++s)
          CHECK(values[((k * 2 + c) * 3 + r) * 3 + s] == static_cast<float>(((k * 3 + r) * 3 + s) * 2 + c));
}

TEST_CASE("weights: a part of the tensors, by a filter") {
  const std::string path = new_path();
  const auto model = small_resnet();
  save_weights(*model, path, {}, [](const Module::Entry& entry) { return entry.name.starts_with("linear."); });
  const Safetensors file(path);
  CHECK(file.entries().size() == 2);
  CHECK(file.find("linear.weight") != nullptr);
}

TEST_CASE("weights: the report counts and names what is missing, unexpected and misshapen, and changes nothing") {
  const std::string path = new_path();
  const auto model = small_resnet();
  const std::vector<float> zeros(10000, 0);
  std::vector<TensorData> tensors;
  for (const Module::Entry& entry : model->tensors()) {
    if (entry.name.starts_with("bn1.")) continue;  // four missing
    Shape shape = file_shape(entry.tensor->shape(), entry.layout);
    if (entry.name == "conv1.weight") shape = {4, 3, 3, 1};
    tensors.push_back({entry.name, DType::f32, shape, zeros.data()});
  }
  tensors.push_back({"extra\n.weight", DType::f32, {2}, zeros.data()});
  write_safetensors(path, tensors, {});
  const std::string message = complaint(*model, path);
  CAPTURE(message);
  CHECK(contains(message, "4 missing (bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var)"));
  CHECK(contains(message, "1 unexpected (extra\\x0a.weight)"));
  CHECK(contains(message, "1 of another shape (conv1.weight: got [4, 3, 3, 1], expected [4, 3, 3, 3])"));

  // Only what nobody allowed to be missing is complained of.
  const std::string allowed = complaint(*model, path, {.allow_missing = {"bn1.running_*"}});
  CHECK(contains(allowed, "2 missing (bn1.weight, bn1.bias)"));
}

TEST_CASE("weights: a long report is cut") {
  const std::string path = new_path();
  write_safetensors(path, {}, {});
  const std::string message = complaint(*models::create("resnet110"), path);
  CHECK(contains(message, "missing (conv1.weight, bn1.weight"));
  CHECK(contains(message, ", ...)"));
  CHECK(message.size() < 500);
}

TEST_CASE("weights: allowed to be missing, tensors keep their initial values") {
  const std::string path = new_path();
  const auto model = small_resnet(1), other = small_resnet(2);
  save_weights(*model, path, {}, [](const Module::Entry& entry) { return !entry.name.starts_with("linear."); });
  CHECK(contains(complaint(*other, path), "2 missing (linear.weight, linear.bias)"));
  const std::vector<float> head = other->tensors().back().tensor->to_vector<float>();
  load_weights(*other, path, {.allow_missing = {"linear.*"}});
  CHECK(other->tensors().back().tensor->to_vector<float>() == head);
  CHECK(other->tensors()[0].tensor->to_vector<float>() == model->tensors()[0].tensor->to_vector<float>());
  // A pattern is for what the file lacks; it does not excuse a wrong shape.
  const auto wider = models::create("resnet20", {.classes = 3, .widths = {4, 8}, .depths = {1, 1}});
  save_weights(*model, path, {});
  CHECK(contains(complaint(*wider, path, {.allow_missing = {"*"}}), "2 of another shape"));
}

TEST_CASE("weights: PyTorch's counters of batches are passed over") {
  const std::string path = new_path();
  const auto model = small_resnet();
  const std::vector<float> zeros(10000, 0);
  const int32_t batches = 7;
  std::vector<TensorData> tensors{{"bn1.num_batches_tracked", DType::i32, {}, &batches}};
  for (const Module::Entry& entry : model->tensors())
    tensors.push_back({entry.name, DType::f32, file_shape(entry.tensor->shape(), entry.layout), zeros.data()});
  write_safetensors(path, tensors, {});
  CHECK(complaint(*model, path) == "");
}

TEST_CASE("weights: a file that ends early changes nothing") {
  const std::string path = new_path();
  const auto model = small_resnet(1), other = small_resnet(2);
  save_weights(*model, path, {});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK(complaint(*other, path) != "");
}

TEST_CASE("weights: other floating types are converted, each value rounded once") {
  // -1.5 and 2^-14 exist in every type; 1/3 is rounded to each type's nearest.
  const float values[] = {-1.5f, 0x1p-14f, 1.0f / 3};
  const uint16_t f16[] = {0xBE00, 0x0400, 0x3555}, bf16[] = {0xBFC0, 0x3880, 0x3EAB};
  const double f64[] = {-1.5, 0x1p-14, 1.0 / 3};
  const struct {
    DType dtype;
    const void* data;
    float third;
  } files[] = {{DType::f32, values, values[2]},
               {DType::f16, f16, 0x1.554p-2f},
               {DType::bf16, bf16, 0x1.56p-2f},
               {DType::f64, f64, 1.0f / 3}};
  for (const auto& file : files) {
    CAPTURE(name_of(file.dtype));
    const std::string path = new_path();
    write_safetensors(path, std::vector<TensorData>{{"weight", file.dtype, {1, 3}, file.data}}, {});
    Linear layer(3, 1, false);
    load_weights(layer, path);
    CHECK(layer.weight().to_vector<float>() == std::vector<float>{-1.5f, 0x1p-14f, file.third});
    layer.set_dtype(DType::f64);
    load_weights(layer, path);
    CHECK(layer.weight().at(2) == (file.dtype == DType::f64 ? 1.0 / 3 : static_cast<double>(file.third)));
  }
}

TEST_CASE("weights: the published weights load from every file of the development data") {
  if (data_folder().empty()) SKIP(missing_data());
  const std::string folder = data_folder() + "/weights/";
  const auto whole = models::create("resnet20"), other = models::create("resnet20", {}, 1);
  load_weights(*whole, folder + "resnet20-cifar10.safetensors");
  load_weights(*other, folder + "resnet20-sharded/model.safetensors.index.json");
  CHECK(same_tensors(*whole, *other));
  const struct {
    const char* name;
    float unit;
  } rounded[] = {{"resnet20-fp16", 0x1p-11f}, {"resnet20-bf16", 0x1p-8f}};
  for (const auto& file : rounded) {
    CAPTURE(file.name);
    load_weights(*other, folder + file.name + ".safetensors");
    const std::vector<float> exact = whole->tensors()[0].tensor->to_vector<float>(),
                             near = other->tensors()[0].tensor->to_vector<float>();
    CHECK(near != exact);
    for (size_t i = 0; i < exact.size(); ++i)  // half precision's subnormals are 2^-24 apart
      CHECK(std::abs(near[i] - exact[i]) <= std::max(file.unit * std::abs(exact[i]), 0x1p-25f));
  }
}

TEST_CASE("weights: a model with adapters comes back from its file and the record in it") {
  const std::string path = new_path();
  for (const char* method : {"quadratic", "lora"}) {
    CAPTURE(method);
    const auto model = small_convnext(1), other = small_convnext(2);
    const AdapterRecord record{method, "*", plan_adapters(*model, {.method = method, .match = "*", .rank = 3})};
    attach_adapters(*model, record.specs, 1);
    randomize(*model);
    save_weights(*model, path, {{"adapters", record.str()}});

    const Safetensors file(path);
    const AdapterRecord read = AdapterRecord::parse(file.metadata().at("adapters"));
    CHECK(read.str() == record.str());
    attach_adapters(*other, read.specs, 2);
    load_weights(*other, file);
    CHECK(same_tensors(*model, *other));

    // The base of the same file is the model without: its own names, and the adapters are what it does not know.
    const auto base = small_convnext(3);
    const std::string message = complaint(*base, path);
    CHECK(contains(message, concat(model->tensors().size() - base->tensors().size(), " unexpected")));
    CHECK_FALSE(contains(message, "missing"));
  }
}

TEST_CASE("weights: the adapters' record keeps every field") {
  AdapterRecord record{"quadratic", "layer\"*\\", {}};
  record.specs.push_back({"a.b", AdapterForm::shared, 3, 5, 7, 0.1});
  record.specs.push_back({"c", AdapterForm::neuron_wise, 1, 1, 1, 1.0 / 3});
  record.specs.push_back({"d", AdapterForm::lora, 4096, 3, 2, -2});
  const std::string text = record.str();
  CHECK(text.find('\n') == std::string::npos);
  const AdapterRecord read = AdapterRecord::parse(text);
  CHECK(read.method == record.method);
  CHECK(read.match == record.match);
  REQUIRE(read.specs.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(read.specs[i].layer == record.specs[i].layer);
    CHECK(read.specs[i].form == record.specs[i].form);
    CHECK(read.specs[i].rank == record.specs[i].rank);
    CHECK(read.specs[i].kernel == record.specs[i].kernel);
    CHECK(read.specs[i].dilation == record.specs[i].dilation);
    CHECK(read.specs[i].scale == record.specs[i].scale);  // exact: the text has enough digits
  }
}

TEST_CASE("weights: a record that is none is refused in one line") {
  const std::string layer = R"("layer":"a","form":"lora","rank":2,"kernel":3,"dilation":1,"scale":1)";
  const auto with = [](const std::string& fields) {
    return R"({"method":"lora","match":"*","layers":[{)" + fields + "}]}";
  };
  CHECK(AdapterRecord::parse(with(layer)).specs.size() == 1);
  const auto changed = [&](std::string_view from, std::string_view to) {
    std::string fields = layer;
    return with(fields.replace(fields.find(from), from.size(), to));
  };
  const std::string broken[] = {"",
                                "[]",
                                "{}",
                                "null",
                                "7",
                                "{\"method\"",
                                "\xff",
                                std::string(100000, '['),
                                R"({"method":"lora","match":"*","layers":7})",
                                R"({"method":1,"match":"*","layers":[]})",
                                changed("\"lora\"", "\"other\""),
                                changed("\"lora\"", "1"),
                                changed("2", "0"),
                                changed("2", "-1"),
                                changed("2", "1e9"),
                                changed("2", "2.5"),
                                changed("2", "99999999999999999999"),
                                changed("2", "\"2\""),
                                changed("\"rank\":2,", ""),
                                changed("3", "100000"),
                                changed("\"scale\":1", "\"scale\":1e999"),
                                changed("\"scale\":1", "\"scale\":null")};
  for (const std::string& text : broken) {
    CAPTURE(text.substr(0, 200));
    std::string message;
    try {
      AdapterRecord::parse(text);
    } catch (const FormatError& error) {
      message = error.what();
    }
    CHECK(contains(message, "adapters"));
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < 400);
  }
}

}  // namespace parabola::weights_test
