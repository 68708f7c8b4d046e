#include "apps/common/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>

#include "apps/common/loss.h"
#include "apps/common/memory_plan.h"
#include "engine/core/error.h"
#include "engine/io/safetensors.h"
#include "engine/ops/binary.h"
#include "engine/tape/executor.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "optim/sgd.h"

namespace parabola {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::unique_ptr<Optimizer> make_optimizer(const Module& model, const Recipe& r) {
  const std::vector<ParameterGroup> groups = layer_decay_groups(named_trainable(model), r.layer_decay);
  if (r.optimizer == "sgd")
    return std::make_unique<Sgd>(groups, Sgd::Options{r.learning_rate, r.momentum, r.weight_decay, r.clip, r.nesterov});
  return std::make_unique<AdamW>(groups, AdamW::Options{r.learning_rate, r.weight_decay, r.clip});
}

// What moves in training: BatchNorm's running statistics are averaged like the weights to which they belong.
std::unique_ptr<Ema> make_ema(const Module& model, const Recipe& r) {
  if (r.ema == 0) return nullptr;
  std::vector<Tensor> moving;
  for (const Module::Entry& entry : model.tensors())
    if (entry.buffer || entry.tensor->requires_gradient()) moving.push_back(*entry.tensor);
  return std::make_unique<Ema>(std::move(moving), r.ema);
}

}  // namespace

Trainer::Trainer(Module& model, DatasetPtr train, DatasetPtr test, TrainerSettings settings, Progress* progress)
    : model_(model),
      train_(train),
      test_(std::move(test)),
      settings_(std::move(settings)),
      progress_(progress),
      loader_(std::move(train), {.batch = settings_.recipe.batch,
                                 .shuffle = true,
                                 .seed = settings_.seed,
                                 .augmentation = settings_.augmentation,
                                 .preprocessing = settings_.preprocessing,
                                 .device = device_of(model)}),
      optimizer_(settings_.recipe.epochs > 0 ? make_optimizer(model, settings_.recipe) : nullptr),
      ema_(settings_.recipe.epochs > 0 ? make_ema(model, settings_.recipe) : nullptr) {
  curves_.title = settings_.title;
  curves_.steps_per_epoch = static_cast<double>(settings_.recipe.steps_per_epoch(loader_.images()));
}

// What backward starts from: the batch's mean loss times its share of the step's images. The loss itself, and the
// scores of the epoch, where asked for: a plan has no values. No handle but the result is left, so backward may free
// the rest.
Tensor Trainer::forward(const Batch& batch, double share, double* loss) {
  const Tensor mean = [&] {
    const Tensor logits = model_(batch.images);
    if (loss) add_batch(epoch_score_, logits, batch.labels);
    return training_loss(logits, batch, settings_.recipe.label_smoothing);
  }();
  if (loss) *loss = mean.item();
  return mean * Tensor::full({}, share, mean.dtype(), Category::inputs, mean.device());
}

// A batch whose values do not matter, mixed where this run mixes: that takes the most.
Tensor Trainer::forward_to_plan(int64_t images) {
  const Device device = device_of(model_);
  const Preprocessing& how = settings_.preprocessing;
  const auto labels = [&] { return Tensor::empty({images}, DType::i32, Category::inputs, device); };
  Batch batch;
  batch.images = Tensor::empty({images, how.height, how.width, how.channels()}, DType::f32, Category::inputs, device);
  batch.labels = labels();
  if (settings_.augmentation.mixes()) batch.partners = labels();
  const bool was_training = model_.training();
  model_.set_training(true);
  const Tensor root = forward(batch, 1, nullptr);
  model_.set_training(was_training);
  return root;
}

Plan Trainer::plan() {
  PlannedStep step = plan_memory(
      settings_.checkpoint, settings_.memory_budget, std::min(settings_.recipe.batch, loader_.images()),
      [&](int64_t images) { return forward_to_plan(images); }, device_of(model_));
  choices_ = std::move(step.choices);
  return step.plan;
}

std::string Trainer::memory_svg() {
  const int64_t images = std::min(settings_.recipe.batch, loader_.images());
  const std::vector<Moment> moments = trace_step(
      tape_options(0), [&] { return forward_to_plan(images); }, device_of(model_));
  return parabola::memory_svg(concat(settings_.title, ": memory of a step, batch ", images), moments,
                              settings_.memory_budget);
}

TapeOptions Trainer::tape_options(uint64_t step) const {
  return {.checkpoint = settings_.checkpoint,
          .seed = settings_.seed,
          .step = step,
          .memory_budget = settings_.memory_budget,
          .plan = choices_};
}

// Forward and backward of one batch, which has this share of the step's images: the gradients of all batches of a step
// add up to that of the mean over its images. Returns the batch's own mean loss.
double Trainer::differentiate(const Batch& batch, double share) {
  const auto number = static_cast<uint64_t>(epoch_ * loader_.batches() + batch_);  // in the run: keys random masks
  Tape tape(tape_options(number));
  const double loss_before = epoch_score_.loss;
  double value = 0;
  const Tensor root = forward(batch, share, &value);
  // The epoch's loss is that which is minimised, not that of the labels alone.
  epoch_score_.loss = loss_before + (value - loss_before) * static_cast<double>(batch.labels.elements()) /
                                        static_cast<double>(epoch_score_.images);
  if (!std::isfinite(value))
    throw DivergedError(concat("training: the loss is ", value, " at step ", steps_ + 1,
                               ", expected a finite number; a smaller --lr or --clip 1 usually helps"));
  if (settings_.first_step) std::exchange(settings_.first_step, nullptr)(tape);
  tape.backward(root);
  return value;
}

// Images of the step to come: fewer at the epoch's end.
int64_t Trainer::next_images() const {
  const Recipe& recipe = settings_.recipe;
  return std::min(loader_.images() - batch_ * recipe.batch, recipe.batch * recipe.accumulate);
}

// One step of the optimizer on the next so many images, in batches. Returns the mean loss.
double Trainer::step(int64_t images) {
  const Recipe& recipe = settings_.recipe;
  const Schedule schedule{recipe.schedule, recipe.learning_rate, recipe.warmup_steps,
                          recipe.epochs * recipe.steps_per_epoch(loader_.images())};
  optimizer_->set_learning_rate(schedule.rate(steps_));
  double loss = 0;
  for (int64_t seen = 0; seen < images; ++batch_) {
    Batch batch;
    const bool more = loader_.next(batch);
    PARABOLA_ASSERT(more);
    const double share = static_cast<double>(batch.labels.elements()) / static_cast<double>(images);
    loss += share * differentiate(batch, share);
    seen += batch.labels.elements();
  }
  optimizer_->step();
  if (ema_) ema_->update();
  curves_.train_loss.push_back(loss);
  curves_.learning_rate.push_back(optimizer_->learning_rate());
  ++steps_;
  return loss;
}

void Trainer::train_epoch(int64_t epoch) {
  const Recipe& recipe = settings_.recipe;
  const int64_t steps = recipe.steps_per_epoch(loader_.images()), epochs = recipe.epochs;
  if (progress_)
    progress_->begin(concat(settings_.label, "epoch ", epoch + 1, "/", epochs), steps, batch_ / recipe.accumulate,
                     (epochs - epoch - 1) * steps + settings_.steps_after);
  model_.set_training(true);
  loader_.start(epoch, batch_);
  double last_save = now(), begun = now();
  while (batch_ < loader_.batches()) {
    const int64_t images = next_images();
    const double loss = step(images);
    WorkCounters& work = Executor::instance().work;  // summed up here, so that a state within an epoch has all of it
    result_.flops += std::exchange(work.flops, 0);
    result_.replay_flops += std::exchange(work.replay_flops, 0);
    result_.seconds += now() - begun;
    begun = now();
    if (progress_) progress_->step(images, loss, epoch_score_.top1());
    if (events_) events_->add(steps_, {{"train/loss", loss}, {"learning_rate", optimizer_->learning_rate()}});
    if (!settings_.folder.empty() && batch_ < loader_.batches() && now() - last_save >= settings_.save_every) {
      save_state();
      last_save = begun = now();
    }
  }
}

// The averaged weights are what counts, where there are any; the model's own come back.
Score Trainer::measure() {
  if (ema_) ema_->swap();
  const Score score = evaluate(model_, test_, settings_.preprocessing, settings_.recipe.batch);
  if (ema_) ema_->swap();
  return score;
}

void Trainer::dry_run() {
  if (epoch_ == settings_.recipe.epochs) return;
  std::vector<std::pair<Tensor, Tensor>> before;  // all that a step moves
  for (const auto& [name, tensor] : state_tensors()) before.emplace_back(tensor, tensor.clone(Category::optimizer));
  const int64_t batch = batch_, steps = steps_, updates = optimizer_->updates();
  const Score score = epoch_score_;
  const bool was_training = model_.training();

  model_.set_training(true);
  loader_.start(epoch_, batch_);
  step(next_images());
  evaluate(model_, subset(test_, 0, std::min(test_->size(), settings_.recipe.batch)), settings_.preprocessing,
           settings_.recipe.batch);
  if (!settings_.folder.empty()) {
    const std::string path = settings_.folder + "/state/dry_run.safetensors";
    write_state(path);
    std::filesystem::remove(path);
    std::error_code not_empty;
    std::filesystem::remove(settings_.folder + "/state", not_empty);
  }

  for (const auto& [tensor, values] : before) tensor.copy_from(values);
  batch_ = batch, steps_ = steps, epoch_score_ = score;
  optimizer_->set_updates(updates);
  curves_.train_loss.pop_back();
  curves_.learning_rate.pop_back();
  model_.set_training(was_training);
  if (progress_)
    progress_->note(settings_.folder.empty() ? "dry run a step of training and one of evaluation: fine"
                                             : "dry run a step of training, one of evaluation and a saved state: fine");
}

TrainerResult Trainer::run() {
  if (!settings_.folder.empty()) log_ = std::make_unique<JsonLines>(settings_.folder + "/log.jsonl", log_bytes_);
  if (!settings_.folder.empty() && epoch_ < settings_.recipe.epochs)
    events_ = std::make_unique<EventFile>(settings_.folder, steps_);
  WorkCounters& work = Executor::instance().work;
  work = {};
  Memory& memory = Memory::of(device_of(model_));
  memory.reset_peak();
  if (ema_ && steps_ == 0) ema_->restart();  // statistics may have been estimated anew since the trainer was made
  for (; epoch_ < settings_.recipe.epochs; ++epoch_) {
    train_epoch(epoch_);
    result_.train_loss = epoch_score_.loss;
    result_.steps = steps_;
    result_.peak_activation_bytes = std::max(result_.peak_activation_bytes, memory.peak_activation_bytes());
    result_.images_per_second = static_cast<double>((epoch_ + 1) * loader_.images()) / std::max(result_.seconds, 1e-9);
    const bool last = epoch_ + 1 == settings_.recipe.epochs, measured = last || !settings_.final_only;
    if (measured) result_.test = measure();
    work = {};
    memory.reset_peak();
    const double train_top1 = epoch_score_.top1();
    curves_.epoch.push_back(static_cast<double>(epoch_ + 1));
    curves_.train_top1.push_back(train_top1);
    curves_.test_top1.push_back(measured ? result_.test.top1() : NAN);
    if (progress_ && !settings_.label.empty()) progress_->end();
    if (progress_ && settings_.label.empty()) {
      char line[160];
      std::snprintf(line, sizeof line,
                    "epoch %lld/%lld  loss %.4f  train top-1 %.2f %%  test top-1 %.2f %%  %.0f images/s",
                    static_cast<long long>(epoch_ + 1), static_cast<long long>(settings_.recipe.epochs),
                    result_.train_loss, 100 * train_top1, 100 * result_.test.top1(), progress_->images_per_second());
      progress_->end(line);
    }
    if (log_)
      log_->write(Record("epoch")
                      .add("epoch", epoch_ + 1)
                      .add("steps", steps_)
                      .add("train_loss", result_.train_loss)
                      .add("train_top1", train_top1)
                      .add("top1", result_.test.top1())
                      .add("learning_rate", optimizer_->learning_rate())
                      .add("seconds", result_.seconds));
    if (events_) {
      events_->add(steps_, {{"train/top1", train_top1}, {"images_per_second", result_.images_per_second}});
      if (measured) events_->add(steps_, {{"test/top1", result_.test.top1()}});
    }
    batch_ = 0;
    epoch_score_ = {};
    if (!settings_.folder.empty()) {
      ++epoch_;  // the state stands at the beginning of the next epoch
      save_state();
      --epoch_;
    }
  }
  if (settings_.recipe.epochs == 0) result_.test = measure();
  if (ema_) ema_->swap();  // for good: the last state has been saved
  return result_;
}

void Trainer::log(const Record& record) {
  if (log_) log_->write(record);
}

}  // namespace parabola
