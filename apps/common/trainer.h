// The training loop that train, adapt and demo share: epochs of steps, a record of each, a state from which a run goes
// on bit for bit, and the curves.
#pragma once
#include <cmath>
#include <functional>
#include <memory>
#include <string>

#include "apps/common/evaluation.h"
#include "apps/common/event_file.h"
#include "apps/common/plot.h"
#include "apps/common/progress.h"
#include "apps/common/records.h"
#include "engine/core/error.h"
#include "engine/tape/plan.h"
#include "layers/models/models.h"
#include "optim/ema.h"
#include "optim/optimizer.h"

namespace parabola {

// Everything that decides the result of a run. Two runs with equal settings, data and initial weights give equal bits.
struct TrainerSettings {
  std::string title;        // of the curves: "adapt resnet20, quadratic"
  std::string fingerprint;  // one line that says what is computed; a state of another one is refused
  Recipe recipe;
  uint64_t seed = 1;
  Augmentation augmentation;
  Preprocessing preprocessing;
  Checkpoint checkpoint = Checkpoint::standard;
  size_t memory_budget = no_budget;  // of a step, in bytes; for Checkpoint::automatic
  std::string folder;                // where state and log go; empty: nothing is kept
  double save_every = 60;            // seconds between states within an epoch
  bool final_only = false;           // measure test accuracy after the last epoch only (learning-rate search)
  std::string label;                 // of its progress line, before "epoch 2/3"; with one, no line about an epoch stays
  int64_t steps_after = 0;           // steps of runs to come, for the time left
  std::function<void(const Tape&)> first_step = {};  // called once, between a forward and its backward
};

// The loss of a step is NaN or Inf: mostly a learning rate far too large.
struct DivergedError : Error {
  using Error::Error;
};

struct TrainerResult {
  int64_t steps = 0;
  double train_loss = 0;  // mean over the last epoch
  Score test;             // after the last epoch
  double seconds = 0;     // of training, without evaluation; of all runs of a resumed one
  double images_per_second = 0;
  double flops = 0;  // forward, backward, optimizer
  double replay_flops = 0;
  size_t peak_activation_bytes = 0;
  double top1_before = NAN;  // of an adaptation: the unadapted model, which the caller measures; NaN: none
};

class Trainer {
 public:
  // The model's trainable parameters are optimized. Progress may be null.
  Trainer(Module& model, DatasetPtr train, DatasetPtr test, TrainerSettings settings, Progress* progress);

  // True where the folder held a state, which was loaded: model, optimizer, position and history stand where that run
  // stood. UsageError where the state is of another run.
  bool resume(const std::string& folder);
  void set_top1_before(double top1) { result_.top1_before = top1; }
  // What a step of a whole batch takes, the most that one of this run does; from then on steps follow this plan.
  // UsageError where it cannot keep the budget.
  Plan plan();
  std::string memory_svg();  // a drawing of that step; call plan() first
  // One step of every phase (training, evaluation, a state in the run's folder), after which weights, statistics,
  // moments, position and folder are as before: what would fail at the end of an epoch fails at the start. Nothing
  // where nothing is left to train.
  void dry_run();
  // Trains to the end. The model then holds the weights that the result speaks of: with recipe.ema, the averages.
  TrainerResult run();
  const Curves& curves() const { return curves_; }
  void log(const Record& record);  // appends to the run's log.jsonl

 private:
  void train_epoch(int64_t epoch);
  int64_t next_images() const;
  double step(int64_t images);
  Score measure();
  TapeOptions tape_options(uint64_t step) const;
  Tensor forward(const Batch& batch, double share, double* loss);
  Tensor forward_to_plan(int64_t images);
  double differentiate(const Batch& batch, double share);
  void save_state() const;
  void write_state(const std::string& path) const;
  std::vector<std::pair<std::string, Tensor>> state_tensors() const;
  std::string state_path(const std::string& folder) const;

  Module& model_;
  DatasetPtr train_, test_;
  TrainerSettings settings_;
  Progress* progress_;
  Loader loader_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Ema> ema_;  // none: null
  // Position and sums of the epoch under way: what a state holds.
  int64_t epoch_ = 0, batch_ = 0, steps_ = 0;
  Score epoch_score_;
  std::shared_ptr<const StepPlan> choices_;  // null: none was asked for
  TrainerResult result_;
  Curves curves_;
  std::unique_ptr<JsonLines> log_;
  std::unique_ptr<EventFile> events_;
  int64_t log_bytes_ = 0;
};

}  // namespace parabola
