// The app adapt, run as a user runs it: what each method trains and what it must leave alone.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "data/loader.h"
#include "data/open.h"
#include "engine/io/safetensors.h"
#include "layers/models/models.h"
#include "layers/weights.h"
#include "tests/apps/cli.h"

namespace parabola::adapt_test {
namespace {

const std::string limit = sanitized() ? "12" : "48", batch = sanitized() ? "4" : "16";  // three steps

// An untrained network's weights, one file a model for all cases.
const std::string& base_of(const std::string& model) {
  static std::map<std::string, std::string> known;
  std::string& path = known[model];
  if (!path.empty()) return path;
  const std::string out = scratch_folder();
  const ProgramResult result =
      run_program({"train", "--model", model, "--data", "synthetic", "--limit", limit, "--epochs", "1", "--out", out});
  REQUIRE_MESSAGE(result.code == 0, result.err);
  return path = out + "/model.safetensors";
}

Arguments adapt(const std::string& model) {
  return {"adapt",   "--model", model,     "--weights", base_of(model), "--data", "synthetic",
          "--limit", limit,     "--batch", batch,       "--epochs",     "1"};
}

std::string bytes_of(const Safetensors& file, const TensorEntry& tensor) {
  std::string bytes(static_cast<size_t>(tensor.shape.elements()) * sizeof(float), '\0');
  file.read(tensor, DType::f32, reinterpret_cast<std::byte*>(bytes.data()), bytes.size());
  return bytes;
}

// Names of the base's tensors that differ in `adapted`; every one of them must be there.
std::set<std::string> changed(const std::string& base_path, const std::string& adapted_path) {
  const Safetensors base(base_path), adapted(adapted_path);
  std::set<std::string> names;
  for (const TensorEntry& tensor : base.entries()) {
    const TensorEntry* now = adapted.find(tensor.name);
    REQUIRE_MESSAGE(now != nullptr, tensor.name);
    if (bytes_of(base, tensor) != bytes_of(adapted, *now)) names.insert(tensor.name);
  }
  return names;
}

std::set<std::string> names_in(const std::string& path) {
  const Safetensors file(path);
  std::set<std::string> names;
  for (const TensorEntry& tensor : file.entries()) names.insert(tensor.name);
  return names;
}

// The logits of a model file on the synthetic test images, in evaluation mode.
std::vector<float> logits_of(const std::string& model_name, const std::string& path) {
  const Safetensors file(path);
  const auto model = models::create(model_name);
  if (const auto found = file.metadata().find("adapters"); found != file.metadata().end())
    attach_adapters(*model, AdapterRecord::parse(found->second).specs, 0);
  load_weights(*model, file);
  model->set_training(false);
  const Preprocessing preprocessing = Preprocessing::parse(models::info(model_name).preprocessing);
  const DataSplits data = open_data("synthetic", sanitized() ? 8 : 32, {preprocessing.height, preprocessing.width});
  std::vector<float> all;
  Loader loader(data.test, {.preprocessing = preprocessing});
  for (Batch& batch : loader) {
    const std::vector<float> logits = (*model)(batch.images).to_vector<float>();
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

double top1_of(const std::string& model, const std::string& weights) {
  return result_of({"evaluate", "--model", model, "--weights", weights, "--data", "synthetic", "--limit", limit})
      .at("top1");
}

const std::set<std::string> head{"linear.weight", "linear.bias"};

}  // namespace

TEST_CASE("adapt: each method trains what it says and nothing else") {
  const std::string& base = base_of("resnet20");
  const double before = top1_of("resnet20", base);
  for (const char* method : {"quadratic", "lora", "head", "full", "none"}) {
    CAPTURE(method);
    const std::string out = scratch_folder(), name = method;
    const Json result = result_of(adapt("resnet20") + Arguments{"--method", method, "--out", out});
    check_keys(result,
               {"model", "method", "epochs", "steps", "train_loss", "top1", "top1_before", "parameters",
                "trainable_parameters", "seconds", "images_per_second", "peak_activation_bytes", "train_flops"});
    const bool adapters = name == "quadratic" || name == "lora";
    const std::string whole = out + "/model.safetensors", part = out + "/adapters.safetensors";
    CHECK(result.at("method") == name);
    CHECK(result.at("top1_before") == before);
    CHECK(result.at("steps") == (name == "none" ? 0 : 3));
    CHECK(top1_of("resnet20", whole) == result.at("top1"));

    const std::set<std::string> moved = changed(base, whole), kept = names_in(part);
    CHECK(Safetensors(whole).metadata().contains("adapters") == adapters);
    if (name == "none") {
      CHECK(result.at("trainable_parameters") == 0);
      CHECK(moved.empty());
      CHECK(kept.empty());
    } else if (name == "full") {
      CHECK(result.at("trainable_parameters") == 269722);
      CHECK(moved == names_in(base));  // running statistics too
      CHECK(kept == moved);
    } else {
      CHECK(moved == head);
      std::set<std::string> expected = head;
      for (const std::string& tensor : names_in(whole))
        if (tensor.find(".adapter.") != std::string::npos) expected.insert(tensor);
      CHECK(kept == expected);
      CHECK(expected.size() == (name == "quadratic" ? 2 + 19 * 3 : name == "lora" ? 2 + 19 * 2 : 2));
    }
    if (name == "quadratic") CHECK(result.at("trainable_parameters") == 48546);
    if (name == "lora") CHECK(result.at("trainable_parameters").number() == doctest::Approx(48546).epsilon(0.02));
    if (name == "head") CHECK(result.at("trainable_parameters") == 650);
  }
}

TEST_CASE("adapt: with --epochs 0 the adapted model's logits equal the base's") {
  for (const char* model : {"resnet20", "convnext_mnist"})
    for (const char* method : {"quadratic", "lora"}) {
      CAPTURE(model);
      CAPTURE(method);
      const std::string out = scratch_folder();
      const Json result = result_of(with(adapt(model), "--epochs", "0") + Arguments{"--method", method, "--out", out});
      CHECK(result.at("top1") == result.at("top1_before"));
      CHECK(result.at("steps") == 0);
      CHECK(changed(base_of(model), out + "/model.safetensors").empty());
      CHECK(logits_of(model, out + "/model.safetensors") == logits_of(model, base_of(model)));
    }
}

TEST_CASE("adapt: --bn adapt re-estimates the statistics, which are then part of the adaptation") {
  const std::string out = scratch_folder();
  const Json result = result_of(with(adapt("resnet20"), "--epochs", "0") + Arguments{"--bn", "adapt", "--out", out});
  const std::set<std::string> moved = changed(base_of("resnet20"), out + "/model.safetensors");
  CHECK(moved.size() == 2 * 19);
  for (const std::string& name : moved) CHECK(name.find(".running_") != std::string::npos);
  const std::set<std::string> kept = names_in(out + "/adapters.safetensors");
  CHECK(std::ranges::includes(kept, moved));
  CHECK(top1_of("resnet20", out + "/model.safetensors") == result.at("top1"));
}

TEST_CASE("adapt: the same bits whatever the threads and the policy, and after a resume") {
  std::set<std::string> models;
  const std::pair<const char*, const char*> runs[] = {{"1", "default"}, {"2", "none"}, {"2", "blocks"}};
  std::string out;
  for (const auto& [threads, checkpoint] : runs) {
    out = scratch_folder();
    result_of(adapt("convnext_mnist") + Arguments{"--out", out, "--threads", threads, "--checkpoint", checkpoint});
    models.insert(read_file(out + "/model.safetensors"));
  }
  CHECK(models.size() == 1);
  const Json complete = result_of(adapt("convnext_mnist") + Arguments{"--resume", out});
  CHECK(complete.at("steps") == 3);
  CHECK(complete.at("top1_before") == top1_of("convnext_mnist", base_of("convnext_mnist")));
  CHECK(read_file(out + "/model.safetensors") == *models.begin());
}

TEST_CASE("adapt: --match, --rank, --kernel, --dilation and --scale reach the adapters and their record") {
  const std::string out = scratch_folder();
  result_of(with(adapt("convnext_mnist"), "--epochs", "0") + Arguments{"--match", "stages.1.*.dwconv", "--rank", "3",
                                                                       "--kernel", "5", "--dilation", "2", "--scale",
                                                                       "0.125", "--out", out});
  const AdapterRecord record = AdapterRecord::parse(Safetensors(out + "/model.safetensors").metadata().at("adapters"));
  CHECK(record.method == "quadratic");
  CHECK(record.match == "stages.1.*.dwconv");
  CHECK_FALSE(record.specs.empty());
  for (const AdapterSpec& spec : record.specs) {
    CHECK(spec.layer.starts_with("stages.1."));
    CHECK(spec.rank == 3);
    CHECK(spec.kernel == 5);
    CHECK(spec.dilation == 2);
    CHECK(spec.scale == 0.125);
  }
}

TEST_CASE("adapt: wrong input is refused with one line, and leaves nothing behind") {
  const std::string& base = base_of("convnext_mnist");
  const auto refused = [&](const Arguments& arguments, const std::string& about) {
    CAPTURE(about);
    const std::string out = scratch_folder() + "/run";
    check_error(run_program(Arguments{"adapt", "--data", "synthetic", "--limit", "16", "--out", out} + arguments), 2,
                about);
    CHECK_FALSE(std::filesystem::exists(out));
  };
  refused({"--model", "convnext_mnist"}, "--weights");
  refused({"--model", "convnext_mnist", "--weights", "no-such-file"}, "no-such-file");
  refused({"--model", "resnet20", "--weights", base}, "holds a convnext_mnist");
  refused({"--model", "convnext_mnist", "--weights", base, "--match", "layer*"}, "layer*");
  refused({"--model", "convnext_mnist", "--weights", base, "--kernel", "4", "--dilation", "1"}, "odd kernel");
  refused({"--model", "convnext_mnist", "--weights", base, "--method", "quadratics"}, "did you mean quadratic?");
  refused({"--model", "convnext_mnist", "--weights", base, "--method", "head", "--rank", "2"}, "--rank");
  refused({"--model", "mlp", "--weights", base_of("mlp")}, "no convolution");
  // An adapted model is no base.
  const std::string out = scratch_folder();
  result_of(with(adapt("convnext_mnist"), "--epochs", "0") + Arguments{"--out", out});
  refused({"--model", "convnext_mnist", "--weights", out + "/model.safetensors"}, "adapters already");
}

TEST_CASE("adapt: a file-size limit met while writing ends the run with exit 1 and nothing half-written") {
  const std::string out = scratch_folder() + "/run";
  const ProgramResult result = run_program(with(adapt("convnext_mnist"), "--epochs", "0") + Arguments{"--out", out},
                                           {.file_size_limit = 200000});  // adapters fit, the model does not
  check_error(result, 1, "File too large");
  CHECK_FALSE(files_in(out).contains("model.safetensors"));
  for (const std::string& file : files_in(out)) CHECK(file.find(".tmp") == std::string::npos);
}

}  // namespace parabola::adapt_test
