// The main job on real data: published weights, evaluated and adapted. Needs the development data (see
// tests/support/test.h); 1,000 test images in `make test`, all 10,000 in `make test-long`.
#include <cstring>

#include "apps/common/adaptation.h"
#include "apps/common/setup.h"
#include "tests/apps/cli.h"

namespace parabola::main_job_test {

namespace {

constexpr int64_t first_thousand = 808;

// Whole networks over a thousand images take a quarter of an hour in a build with sanitizers, and go through no code
// that the tests of ops, layers and apps do not.
constexpr const char* too_slow = "too slow with sanitizers; the plain build runs it";

std::string limit() { return long_tests() ? "10000" : "1000"; }

int64_t correct(const std::string& weights) {
  const Json record = result_of({"evaluate", "--model", "resnet20", "--weights", data_folder() + "/weights/" + weights,
                                 "--data", "cifar10:" + cifar10_folder(), "--limit", limit()});
  CHECK(record.at("images") == std::stoll(limit()));
  CHECK(record.at("top1") == doctest::Approx(record.at("correct").number() / record.at("images").number()));
  return static_cast<int64_t>(record.at("correct").number());
}

Tensor first_images(const LoadedModel& loaded, const DatasetPtr& data, int64_t count) {
  Loader loader(data, {.batch = count, .preprocessing = loaded.preprocessing});
  loader.start(0);
  Batch batch;
  REQUIRE(loader.next(batch));
  return batch.images;
}

}  // namespace

TEST_CASE("main job: published ResNet-20 weights classify the CIFAR-10 test images as elsewhere") {
  if (sanitized()) SKIP(too_slow);
  if (cifar10_folder().empty()) SKIP(missing_data());
  // Counts of an independent implementation (shared/data/README.md) on all images; on the first 1,000, this engine's
  // own, so that the quick run notices a change.
  const int64_t all = correct("resnet20-cifar10.safetensors");
  CHECK(correct("resnet20-sharded/model.safetensors.index.json") == all);
  if (!long_tests()) {
    CHECK(std::abs(all - first_thousand) <= 2);
    return;
  }
  CHECK(std::abs(all - 8103) <= 5);
  CHECK(std::abs(correct("resnet20-fp16.safetensors") - 8105) <= 10);
  CHECK(std::abs(correct("resnet20-bf16.safetensors") - 8096) <= 10);
}

TEST_CASE("main job: untrained adapters change no logit, and detaching gives the base back") {
  if (sanitized()) SKIP(too_slow);
  if (cifar10_folder().empty()) SKIP(missing_data());
  for (const std::string name : {"resnet20", "convnext_cifar"}) {
    const bool all = name == "resnet20" || long_tests();  // the other one is slow
    const DataSplits data = open_data("cifar10:" + cifar10_folder(), all ? std::stoll(limit()) : 250);
    Flags flags;
    flags.model = name;
    flags.weights = data_folder() + "/weights/resnet20-cifar10.safetensors";
    LoadedModel loaded = name == "resnet20" ? load_model(flags, 10) : new_model(flags, 10);
    loaded.model->set_training(false);
    std::vector<std::vector<float>> before;
    const auto run_all = [&](auto&& each) {
      Loader loader(data.test, {.batch = 250, .preprocessing = loaded.preprocessing});
      for (Batch& batch : loader) each((*loaded.model)(batch.images).to_vector<float>());
    };
    run_all([&](std::vector<float> logits) { before.push_back(std::move(logits)); });
    prepare_adaptation(loaded, "quadratic", {}, 1);
    size_t batch = 0, different = 0;
    run_all([&](const std::vector<float>& logits) { different += logits != before[batch++]; });
    CHECK(different == 0);
    detach_adapters(*loaded.model);
    const std::vector<float> again = (*loaded.model)(first_images(loaded, data.test, 250)).to_vector<float>();
    CHECK(std::memcmp(again.data(), before[0].data(), again.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("main job: adaptation beats the unadapted net and the head alone, and leaves the base's tensors alone") {
  if (cifar10_folder().empty()) SKIP(missing_data());
  if (!long_tests()) SKIP("a minute of training; runs in make test-long");
  const std::string weights = data_folder() + "/weights/resnet20-cifar10.safetensors";
  const auto adapted = [&](const std::string& method, const std::string& out) {
    return result_of({"adapt", "--model", "resnet20", "--weights", weights, "--data", "cifar10:" + cifar10_folder(),
                      "--limit", "6000", "--epochs", "2", "--method", method, "--out", out});
  };
  const std::string folder = scratch_folder();
  const Json quadratic = adapted("quadratic", folder + "/quadratic"), head = adapted("head", folder + "/head");
  // Two short epochs of 6,000 images; docs/method.md has the full runs.
  CHECK(quadratic.at("top1").number() > quadratic.at("top1_before").number() + 0.02);
  CHECK(quadratic.at("top1").number() > head.at("top1").number());
  CHECK(quadratic.at("trainable_parameters") == 48546);
  CHECK(head.at("trainable_parameters") == 650);
  const Safetensors base(weights), model(folder + "/quadratic/model.safetensors");
  for (const TensorEntry& entry : base.entries()) {
    if (entry.name.starts_with("linear.")) continue;  // the head trains
    std::vector<float> was(static_cast<size_t>(entry.shape.elements())), is = was;
    const TensorEntry* stored = model.find(entry.name);
    REQUIRE(stored);
    base.read(entry, DType::f32, reinterpret_cast<std::byte*>(was.data()), was.size() * 4);
    model.read(*stored, DType::f32, reinterpret_cast<std::byte*>(is.data()), is.size() * 4);
    CHECK_MESSAGE(was == is, entry.name);
  }
}

}  // namespace parabola::main_job_test
