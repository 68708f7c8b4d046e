// The resumable state of a run: one safetensors file with the model (its own weights), the optimizer's moments, the
// moving averages, the position and the history. Batches, augmentation and random masks are functions of (seed, epoch,
// step), so nothing else has to be remembered.
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>

#include "apps/common/trainer.h"
#include "engine/core/error.h"
#include "engine/io/safetensors.h"

namespace parabola {
namespace {

Tensor column(const std::vector<double>& values) {
  return Tensor::from(values, Shape{static_cast<int64_t>(values.size())}, Category::optimizer);
}

}  // namespace

std::string Trainer::state_path(const std::string& folder) const { return folder + "/state/state.safetensors"; }

std::vector<std::pair<std::string, Tensor>> Trainer::state_tensors() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Module::Entry& entry : model_.tensors()) tensors.emplace_back("model." + entry.name, *entry.tensor);
  for (size_t i = 0; i < optimizer_->state().size(); ++i)
    tensors.emplace_back(concat("optimizer.", i), optimizer_->state()[i]);
  if (ema_)
    for (size_t i = 0; i < ema_->averages().size(); ++i)
      tensors.emplace_back(concat("average.", i), ema_->averages()[i]);
  return tensors;
}

void Trainer::save_state() const { write_state(state_path(settings_.folder)); }

void Trainer::write_state(const std::string& path) const {
  std::vector<std::pair<std::string, Tensor>> tensors = state_tensors();
  tensors.emplace_back("history.train_loss", column(curves_.train_loss));
  tensors.emplace_back("history.learning_rate", column(curves_.learning_rate));
  tensors.emplace_back("history.epoch", column(curves_.epoch));
  tensors.emplace_back("history.train_top1", column(curves_.train_top1));
  tensors.emplace_back("history.test_top1", column(curves_.test_top1));
  const TrainerResult& r = result_;
  tensors.emplace_back(
      "position",
      column({static_cast<double>(epoch_), static_cast<double>(batch_), static_cast<double>(steps_),
              static_cast<double>(optimizer_->updates()), static_cast<double>(log_ ? log_->bytes() : log_bytes_),
              static_cast<double>(epoch_score_.images), static_cast<double>(epoch_score_.correct),
              static_cast<double>(epoch_score_.in_top5), epoch_score_.loss}));
  tensors.emplace_back("result", column({static_cast<double>(r.steps), r.train_loss, static_cast<double>(r.test.images),
                                         static_cast<double>(r.test.correct), static_cast<double>(r.test.in_top5),
                                         r.test.loss, r.seconds, r.images_per_second, r.flops, r.replay_flops,
                                         static_cast<double>(r.peak_activation_bytes), r.top1_before}));
  std::vector<TensorData> data;
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.on_cpu();
    data.push_back({name, tensor.dtype(), tensor.shape(), tensor.raw()});
  }
  std::filesystem::create_directories(settings_.folder + "/state");
  write_safetensors(path, data, {{"format", "parabola-state"}, {"run", settings_.fingerprint}});
}

bool Trainer::resume(const std::string& folder) {
  const std::string path = state_path(folder);
  if (!optimizer_ || !std::filesystem::exists(path)) return false;
  const Safetensors file(path);
  const auto run = file.metadata().find("run");
  if (run == file.metadata().end() || run->second != settings_.fingerprint)
    throw UsageError(concat("--resume ", printable(folder), ": the state there is of another run (",
                            run == file.metadata().end() ? "unknown" : printable(run->second, 300), "), expected ",
                            settings_.fingerprint));
  const auto stored = [&](const std::string& name) -> const TensorEntry& {
    const TensorEntry* entry = file.find(name);
    if (!entry)
      throw FormatError(concat(printable(path), ": tensor ", name, " is missing, expected a state of this model"));
    return *entry;
  };
  const auto numbers = [&](const std::string& name, size_t least) {
    const TensorEntry& entry = stored(name);
    std::vector<double> values(static_cast<size_t>(entry.shape.elements()));
    if (values.size() < least)
      throw FormatError(
          concat(printable(path), ": tensor ", name, " has ", values.size(), " values, expected ", least));
    file.read(entry, DType::f64, reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double));
    return values;
  };
  for (const auto& [name, tensor] : state_tensors()) {
    const TensorEntry& entry = stored(name);
    if (entry.shape != tensor.shape())
      throw FormatError(
          concat(printable(path), ": tensor ", name, " has shape ", entry.shape, ", expected ", tensor.shape()));
    const Tensor values = Tensor::empty(tensor.shape(), tensor.dtype(), Category::inputs);
    file.read(entry, values.dtype(), values.raw(), values.bytes());
    tensor.copy_from(values);
  }
  curves_.train_loss = numbers("history.train_loss", 0);
  curves_.learning_rate = numbers("history.learning_rate", 0);
  curves_.epoch = numbers("history.epoch", 0);
  curves_.train_top1 = numbers("history.train_top1", 0);
  curves_.test_top1 = numbers("history.test_top1", 0);
  const std::vector<double> p = numbers("position", 9), r = numbers("result", 12);
  const auto whole = [](double value) { return static_cast<int64_t>(value); };
  epoch_ = whole(p[0]), batch_ = whole(p[1]), steps_ = whole(p[2]);
  optimizer_->set_updates(whole(p[3]));
  // A log of another folder is not this run's: only lines of the same one stay.
  log_bytes_ = settings_.folder == folder ? whole(p[4]) : 0;
  epoch_score_ = {.images = whole(p[5]), .correct = whole(p[6]), .in_top5 = whole(p[7]), .loss = p[8]};
  result_ = {.steps = whole(r[0]), .train_loss = r[1]};
  result_.test = {.images = whole(r[2]), .correct = whole(r[3]), .in_top5 = whole(r[4]), .loss = r[5]};
  result_.seconds = r[6], result_.images_per_second = r[7], result_.flops = r[8], result_.replay_flops = r[9];
  result_.peak_activation_bytes = static_cast<size_t>(r[10]);
  result_.top1_before = r[11];
  return true;
}

}  // namespace parabola
