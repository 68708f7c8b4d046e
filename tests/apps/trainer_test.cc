// The training loop in one process: what a dry run, moving averages and augmentation must not change.
#include "apps/common/trainer.h"

#include <filesystem>
#include <fstream>

#include "apps/common/loss.h"
#include "data/synthetic.h"
#include "engine/io/safetensors.h"
#include "tests/support/test.h"

namespace parabola::trainer_test {
namespace {

using Weights = std::vector<std::vector<float>>;

// A ResNet with BatchNorm, small enough for tests.
std::unique_ptr<Module> small_resnet() { return models::create("resnet20", {.widths = {4, 8}, .depths = {1, 1}}, 3); }

Weights weights_of(const Module& model) {
  Weights weights;
  for (const Module::Entry& entry : model.tensors()) weights.push_back(entry.tensor->to_vector<float>());
  return weights;
}

DatasetPtr images(int first, int count) { return synthetic_dataset("synthetic", first, count, 10, 32, 32); }

TrainerSettings settings_in(const std::string& folder) {
  return {.fingerprint = "test",
          .recipe = {.optimizer = "sgd",
                     .learning_rate = 0.05,
                     .momentum = 0.9,
                     .nesterov = true,
                     .layer_decay = 0.8,
                     .ema = 0.9,
                     .label_smoothing = 0.1,
                     .batch = 4,
                     .accumulate = 2,
                     .epochs = 2},
          .augmentation =
              {.crop = true, .flip = true, .rrc = true, .jitter = true, .cutout = true, .mixup = true, .cutmix = true},
          .folder = folder,
          .save_every = 0};
}

// A data set that fails after so many images: a run that ends in the middle.
class Failing final : public Dataset {
 public:
  Failing(DatasetPtr whole, int images) : Dataset(whole->info()), whole_(std::move(whole)), left_(images) {}

 private:
  int32_t read_label(int64_t index) const override { return whole_->label(index); }
  void read_image(int64_t index, Image& out) const override {
    if (left_-- == 0) throw Error("the plug was pulled");
    whole_->image(index, out);
  }
  DatasetPtr whole_;
  mutable int left_;
};

}  // namespace

TEST_CASE("trainer: the loss of smoothed and mixed targets, and its gradient, by their definition") {
  const std::vector<double> values = {1, -2, 0.5, 3, 0, 0.25, -1, 2};
  Batch batch{.labels = Tensor::from(std::vector<int32_t>{2, 0}, {2}),
              .partners = Tensor::from(std::vector<int32_t>{1, 3}, {2}),
              .share = 0.75};
  for (const bool mixed : {false, true})
    for (const double smoothing : {0.0, 0.2}) {
      if (!mixed)
        batch.partners = {}, batch.share = 1;
      else
        batch.partners = Tensor::from(std::vector<int32_t>{1, 3}, {2}), batch.share = 0.75;
      Tensor logits = Tensor::from(values, {2, 4}).to(DType::f64, Category::parameters);
      logits.set_requires_gradient(true);
      Tape tape;
      const Tensor loss = training_loss(logits, batch, smoothing);
      tape.backward(loss);
      double expected = 0;
      for (int64_t n = 0; n < 2; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < 4; ++k) sum += std::exp(values[static_cast<size_t>(4 * n + k)]);
        for (int64_t k = 0; k < 4; ++k) {
          double target = batch.labels.at(n) == k ? batch.share : 0;
          if (mixed && batch.partners.at(n) == k) target += 1 - batch.share;
          target = (1 - smoothing) * target + smoothing / 4;
          const double x = values[static_cast<size_t>(4 * n + k)];
          expected += target * (std::log(sum) - x) / 2;
          CHECK(logits.gradient().at(4 * n + k) == doctest::Approx((std::exp(x) / sum - target) / 2).epsilon(1e-12));
        }
      }
      CHECK(loss.item() == doctest::Approx(expected).epsilon(1e-12));
    }
}

TEST_CASE("trainer: a dry run changes nothing, neither now nor later") {
  Weights ends[2];
  TrainerResult results[2];
  for (const bool dry : {false, true}) {
    const std::string folder = scratch_folder();
    const auto model = small_resnet();
    const Weights before = weights_of(*model);
    Trainer trainer(*model, images(0, 22), images(1024, 8), settings_in(folder), nullptr);
    if (dry) trainer.dry_run();
    CHECK(weights_of(*model) == before);
    CHECK(std::filesystem::is_empty(folder));
    CHECK(trainer.curves().train_loss.empty());
    results[dry] = trainer.run();
    ends[dry] = weights_of(*model);
    CHECK(ends[dry] != before);
    CHECK(trainer.curves().train_loss.size() == 6);  // 22 images: 8, 8 and 6, twice
    trainer.dry_run();                               // nothing is left to train
    CHECK(weights_of(*model) == ends[dry]);
  }
  CHECK(ends[0] == ends[1]);
  CHECK(results[0].train_loss == results[1].train_loss);
  CHECK(results[0].flops == results[1].flops);
  CHECK(results[0].peak_activation_bytes == results[1].peak_activation_bytes);
}

TEST_CASE("trainer: a dry run meets what would fail at the end of the first epoch") {
  const std::string folder = scratch_folder();
  const auto model = small_resnet();
  Trainer trainer(*model, images(0, 22), std::make_shared<Failing>(images(1024, 8), 0), settings_in(folder), nullptr);
  CHECK_THROWS_WITH_AS(trainer.dry_run(), "the plug was pulled", Error);
  std::ofstream(folder + "/state") << "a file where the folder should be";
  Trainer other(*model, images(0, 22), images(1024, 8), settings_in(folder), nullptr);
  CHECK_THROWS_AS(other.dry_run(), std::exception);
}

TEST_CASE("trainer: the averaged weights are measured and left in the model; the state holds both") {
  const std::string folder = scratch_folder();
  const auto model = small_resnet();
  const DatasetPtr test = images(1024, 20);
  const TrainerSettings settings = settings_in(folder);
  Trainer trainer(*model, images(0, 22), test, settings, nullptr);
  const TrainerResult result = trainer.run();
  CHECK(evaluate(*model, test, settings.preprocessing, 8).loss == result.test.loss);
  const Safetensors state(folder + "/state/state.safetensors");
  int averages = 0, same_as_average = 0, same_as_own = 0;
  for (const Module::Entry& entry : model->tensors()) {
    const auto read = [&](const std::string& name) {
      const TensorEntry* stored = state.find(name);
      REQUIRE(stored != nullptr);
      std::vector<float> values(static_cast<size_t>(stored->shape.elements()));
      state.read(*stored, DType::f32, reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(float));
      return values;
    };
    const std::vector<float> now = entry.tensor->to_vector<float>();
    same_as_average += read("average." + std::to_string(averages++)) == now;
    same_as_own += read("model." + entry.name) == now;
  }
  CHECK(same_as_average == averages);  // all of this net trains
  CHECK(same_as_own == 0);
}

TEST_CASE("trainer: a run with averages, accumulation and every augmentation resumes bit for bit") {
  const std::string straight = scratch_folder(), broken = scratch_folder();
  const auto expected = small_resnet();
  Trainer whole(*expected, images(0, 22), images(1024, 8), settings_in(straight), nullptr);
  const TrainerResult all = whole.run();

  const auto interrupted = small_resnet();
  Trainer first(*interrupted, std::make_shared<Failing>(images(0, 22), 40), images(1024, 8), settings_in(broken),
                nullptr);
  CHECK_THROWS_WITH_AS(first.run(), "the plug was pulled", Error);  // in the second epoch
  const auto model = small_resnet();
  Trainer second(*model, images(0, 22), images(1024, 8), settings_in(broken), nullptr);
  REQUIRE(second.resume(broken));
  second.dry_run();
  const TrainerResult rest = second.run();
  CHECK(weights_of(*model) == weights_of(*expected));
  CHECK(rest.train_loss == all.train_loss);
  CHECK(rest.test.loss == all.test.loss);
  CHECK(rest.steps == all.steps);
  // A complete run, resumed, ends with the averages too.
  const auto again = small_resnet();
  Trainer third(*again, images(0, 22), images(1024, 8), settings_in(broken), nullptr);
  REQUIRE(third.resume(broken));
  third.run();
  CHECK(weights_of(*again) == weights_of(*expected));
}

}  // namespace parabola::trainer_test
