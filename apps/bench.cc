// bench: time, work and memory of one model's training or inference step.
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>

#include "apps/common/adaptation.h"
#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "data/synthetic.h"
#include "engine/core/memory.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/executor.h"
#include "optim/sgd.h"

namespace parabola {
namespace {

constexpr int classes = 10;
constexpr int warm_up_steps = 2;  // the arena has its pages and the threads are awake after these
constexpr size_t least_steps = 5;
constexpr double least_seconds = 2;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Measurement {
  std::vector<double> seconds;  // of each timed step
  size_t peak_bytes = 0, saved_bytes = 0;
  WorkCounters work;  // of one step
  double median() const {
    std::vector<double> sorted = seconds;
    std::ranges::sort(sorted);
    const size_t half = sorted.size() / 2;
    return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
  double least() const { return *std::ranges::min_element(seconds); }
};

// step: runs one step and returns the activation bytes that were alive when its forward pass had ended.
Measurement measure(const std::function<size_t()>& step) {
  for (int i = 0; i < warm_up_steps; ++i) step();
  Measurement result;
  Memory& memory = Memory::of({});
  const size_t before = memory.activation_bytes();
  const double begun = seconds_now();
  while (result.seconds.size() < least_steps || seconds_now() - begun < least_seconds) {
    memory.reset_peak();
    Executor::instance().work = {};
    const double start = seconds_now();
    result.saved_bytes = step() - before;
    result.seconds.push_back(seconds_now() - start);
    result.work = Executor::instance().work;
    result.peak_bytes = memory.peak_activation_bytes() - before;
  }
  return result;
}

Batch synthetic_batch(const Preprocessing& preprocessing, int64_t size) {
  Loader loader(synthetic_dataset("bench", 0, size, classes, preprocessing.height, preprocessing.width),
                {.batch = size, .preprocessing = preprocessing});
  Batch batch;
  loader.start(0);
  loader.next(batch);
  return batch;
}

// Unlike in `adapt`, the norms train: so do those of the PyTorch nets that these times are compared with.
void attach_for_timing(LoadedModel& loaded, const Flags& flags) {
  const auto as_int = [](std::optional<int64_t> value) {
    return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
  };
  Module& model = *loaded.model;
  set_trainable(model, "*", false);
  for (auto& [name, module] : model.modules())
    if (dynamic_cast<BatchNorm*>(module) || dynamic_cast<LayerNorm*>(module)) set_trainable(*module, "*", true);
  set_trainable(model, loaded.info->head + ".*", true);
  const AdapterOptions options{
      "quadratic", flags.match, as_int(flags.rank), as_int(flags.kernel), as_int(flags.dilation), flags.scale};
  loaded.adapters = AdapterRecord{options.method, flags.match.value_or("default"), plan_adapters(model, options)};
  attach_adapters(model, loaded.adapters->specs, flags.seed);
}

Measurement measure_training(Module& model, const Batch& batch, Checkpoint checkpoint) {
  model.set_training(true);
  // The rate only has to keep the weights in the range of numbers that training sees; 0.9 as in every recipe with SGD.
  Sgd optimizer(trainable(model), {.lr = 1e-4, .momentum = 0.9});
  return measure([&] {
    Tape tape({.checkpoint = checkpoint});
    const Tensor loss = cross_entropy(model(batch.images), batch.labels);
    const size_t saved = Memory::of({}).activation_bytes();
    tape.backward(loss);
    optimizer.step();
    return saved;
  });
}

Measurement measure_inference(Module& model, const Batch& batch) {
  model.set_training(false);
  return measure([&] {
    model(batch.images);
    return Memory::of({}).activation_bytes();
  });
}

void run(const Flags& flags) {
  std::ostream& out = human_output(flags.json);
  if (flags.list_models) return list_models(out);
  if (flags.threads) set_threads(static_cast<int>(*flags.threads));
  const ModelInfo& info = model_info(flags.model);
  const int64_t batch = flags.batch.value_or(info.train.batch);
  LoadedModel loaded = new_model(flags, classes);
  if (flags.adapt) attach_for_timing(loaded, flags);
  JsonLines json(flags.json);

  const std::string adapters = flags.adapt ? ", " + describe_method("quadratic", loaded) : "";
  out << "model  " << info.name << adapters << ", " << format_count(parameter_count(*loaded.model)) << " parameters, "
      << format_count(parameter_count(*loaded.model, true)) << " trainable\n"
      << "run    " << flags.mode << ", batch " << batch << ", " << flags.device.str() << ", " << thread_pool().threads()
      << " threads, " << flags.dtype << ", checkpoint " << flags.checkpoint << "\n\n"
      << std::flush;

  const Batch images = synthetic_batch(loaded.preprocessing, batch);
  const Measurement m = flags.mode == "train" ? measure_training(*loaded.model, images, checkpoint_of(flags.checkpoint))
                                              : measure_inference(*loaded.model, images);
  const double images_per_second = static_cast<double>(batch) / m.median(), gflops = m.work.flops / m.median() / 1e9;

  Table table({"step ms", "least", "images/s", "GFLOP", "replayed", "GFLOP/s", "after forward", "peak"});
  table.add({format_fixed(1e3 * m.median(), 2), format_fixed(1e3 * m.least(), 2), format_fixed(images_per_second, 1),
             format_fixed(m.work.flops / 1e9, 3), format_fixed(m.work.replay_flops / 1e9, 3), format_fixed(gflops, 1),
             format_bytes(static_cast<int64_t>(m.saved_bytes)), format_bytes(static_cast<int64_t>(m.peak_bytes))});
  out << table.str() << "\nmedian of " << m.seconds.size() << " steps; bytes are those of activations\n";

  json.write(Record("result")
                 .add("model", info.name)
                 .add("mode", flags.mode)
                 .add("batch", batch)
                 .add("threads", thread_pool().threads())
                 .add("device", flags.device.str())
                 .add("dtype", flags.dtype)
                 .add("checkpoint", flags.checkpoint)
                 .add("step_ms_median", 1e3 * m.median())
                 .add("step_ms_min", 1e3 * m.least())
                 .add("images_per_second", images_per_second)
                 .add("peak_activation_bytes", m.peak_bytes)
                 .add("saved_activation_bytes", m.saved_bytes)
                 .add("flops", m.work.flops)
                 .add("gflops_per_second", gflops)
                 .add("replay_flops", m.work.replay_flops));
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::bench, argc, argv, parabola::run); }
