// bench: time, work and memory of one model's training or inference step, or of an op; or what a step will take.
#include <iostream>

#include "apps/common/adaptation.h"
#include "apps/common/graph.h"
#include "apps/common/measure.h"
#include "apps/common/memory_plan.h"
#include "apps/common/op_bench.h"
#include "apps/common/profile.h"
#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "data/synthetic.h"
#include "engine/core/error.h"
#include "engine/core/memory.h"
#include "engine/core/thread_pool.h"
#include "engine/io/atomic_file.h"
#include "engine/ops/cross_entropy.h"
#include "engine/tape/executor.h"
#include "layers/inference.h"
#include "optim/sgd.h"

namespace parabola {
namespace {

constexpr double least_seconds = 2;  // of one model's steps
constexpr int budgets_planned = 8;
constexpr const char* profile_file = "profile.svg";

Batch synthetic_batch(const LoadedModel& loaded, int64_t size, Device device) {
  const Preprocessing& preprocessing = loaded.preprocessing;
  Loader loader(synthetic_dataset("bench", 0, size, loaded.info->classes, preprocessing.height, preprocessing.width),
                {.batch = size, .preprocessing = preprocessing, .device = device});
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

// A forward pass on images of any values, for plans.
LossOfBatch loss_of(const LoadedModel& loaded, Device device) {
  // Kept between calls: a search for plans makes hundreds.
  return [&loaded, device, images = Tensor(), labels = Tensor()](int64_t batch) mutable {
    const Preprocessing& how = loaded.preprocessing;
    if (!images || images.shape()[0] != batch) {
      images = Tensor::empty({batch, how.height, how.width, how.channels()}, DType::f32, Category::inputs, device);
      labels = Tensor::empty({batch}, DType::i32, Category::inputs, device);
    }
    loaded.model->set_training(true);
    return cross_entropy((*loaded.model)(images), labels);
  };
}

void draw_step(Module& model, const Batch& batch, const TapeOptions& options, const std::string& title,
               const std::string& file) {
  model.set_training(true);
  const Tape tape(options);
  const Tensor loss = cross_entropy(model(batch.images), batch.labels);
  write_graph(file, StepReport(tape), title);
}

// One training step, or one pass of a folded model: what is timed. Says the activation bytes after the forward pass.
std::function<size_t()> step_of(Module& model, const Batch& batch, const TapeOptions& options, bool training) {
  model.set_training(training);
  const Memory& memory = Memory::of(batch.images.device());
  if (!training)
    return [&, infer = std::make_shared<Inference>(model)] {
      (*infer)(batch.images);
      return memory.activation_bytes();
    };
  // The rate only has to keep the weights in the range of numbers that training sees; 0.9 as in every recipe with SGD.
  const auto optimizer = std::make_shared<Sgd>(trainable(model), Sgd::Options{.lr = 1e-4, .momentum = 0.9});
  return [&, optimizer] {
    Tape tape(options);
    const Tensor loss = cross_entropy(model(batch.images), batch.labels);
    const size_t saved = memory.activation_bytes();
    tape.backward(loss);
    optimizer->step();
    return saved;
  };
}

// A result record, of which `record` is the beginning that tells the model or op.
Record completed(Record record, const Flags& flags, int64_t batch, const Measurement& m) {
  record.add("mode", flags.mode)
      .add("batch", batch)
      .add("threads", thread_pool().threads())
      .add("device", flags.device.str())
      .add("dtype", flags.dtype)
      .add("checkpoint", flags.checkpoint)
      .add("memory_budget", flags.memory_budget)
      .add("step_ms_median", 1e3 * m.median())
      .add("step_ms_min", 1e3 * m.least())
      .add("images_per_second", static_cast<double>(batch) / m.median())
      .add("peak_activation_bytes", m.peak_bytes)
      .add("saved_activation_bytes", m.saved_bytes)
      .add("flops", m.work.flops)
      .add("gflops_per_second", m.work.flops / m.median() / 1e9)
      .add("replay_flops", m.work.replay_flops)
      .add("minor_faults", m.minor_faults);
  if (m.resident_bytes) record.add("resident_bytes", *m.resident_bytes);
  return record;
}

std::string name_of(const LoadedModel& loaded) {
  return loaded.info->name + (loaded.adapters ? ", " + describe_method("quadratic", loaded) : "");
}

// The model that the flags describe, announced.
LoadedModel prepared_model(const Flags& flags, std::ostream& out) {
  LoadedModel loaded = new_model(flags, model_info(flags.model).classes);
  if (flags.adapt) attach_for_timing(loaded, flags);
  if (flags.image_size) loaded.preprocessing.height = loaded.preprocessing.width = static_cast<int>(*flags.image_size);
  loaded.model->set_device(flags.device);
  out << "model  " << name_of(loaded) << ", " << format_count(parameter_count(*loaded.model)) << " parameters, "
      << format_count(parameter_count(*loaded.model, true)) << " trainable\n";
  return loaded;
}

// A row a policy, then budgets from what `none` takes down to the smallest, without data and without computing
// anything.
void run_plan(const Flags& flags, JsonLines& json, std::ostream& out) {
  const ModelInfo& info = model_info(flags.model);
  const int64_t batch = flags.batch.value_or(info.train.batch);
  const LoadedModel loaded = prepared_model(flags, out);
  out << "plan   a training step, batch " << batch << ", " << flags.dtype << "\n\n";
  const LossOfBatch loss = loss_of(loaded, flags.device);
  Table table({"checkpoint", "budget", "after forward", "peak", "GFLOP", "replayed", "of it"});
  const auto add = [&](Checkpoint checkpoint, std::optional<size_t> budget, const Plan& plan) {
    table.add({std::string(name_of(checkpoint)), budget ? bytes_text(*budget) : "-", bytes_text(plan.saved_bytes),
               bytes_text(plan.peak_bytes), format_fixed(plan.flops / 1e9, 3), format_fixed(plan.replay_flops / 1e9, 3),
               format_percent(plan.replay_flops / plan.flops, 0)});
    Record record("result");
    record.add("model", info.name)
        .add("mode", "plan")
        .add("batch", batch)
        .add("dtype", flags.dtype)
        .add("checkpoint", name_of(checkpoint));
    if (budget) record.add("memory_budget", *budget);
    json.write(record.add("peak_activation_bytes", plan.peak_bytes)
                   .add("saved_activation_bytes", plan.saved_bytes)
                   .add("flops", plan.flops)
                   .add("replay_flops", plan.replay_flops));
  };
  if (!flags.memory_budget)
    for (const Checkpoint checkpoint : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks})
      add(checkpoint, {}, plan_memory(checkpoint, no_budget, batch, loss, flags.device).plan);
  if (flags.memory_budget) {
    add(Checkpoint::automatic, flags.memory_budget,
        plan_memory(Checkpoint::automatic, *flags.memory_budget, batch, loss, flags.device).plan);
  } else {
    const Frontier frontier([&] { return loss(batch); }, flags.device);
    const size_t most = frontier.steps().back().plan.peak_bytes, least = frontier.smallest_budget();
    for (int i = 0; i < budgets_planned; ++i) {
      const size_t budget = most - (most - least) / (budgets_planned - 1) * static_cast<size_t>(i);
      add(Checkpoint::automatic, budget, frontier.within(budget)->plan);
    }
  }
  out << table.str() << "\nbytes are those of activations; work is that of forward and backward\n";
}

void run_fit(const Flags& flags, JsonLines& json, std::ostream& out) {
  const LoadedModel loaded = prepared_model(flags, out);
  const LossOfBatch loss = loss_of(loaded, flags.device);
  const size_t budget = *flags.memory_budget;
  const int64_t batch = largest_batch(budget, loss, flags.device);
  const Plan plan = plan_memory(Checkpoint::automatic, budget, batch, loss, flags.device).plan;
  out << "fit    batch " << batch << " is the largest within " << bytes_text(budget) << ": " << describe(plan) << "\n";
  json.write(Record("result")
                 .add("model", loaded.info->name)
                 .add("mode", "fit")
                 .add("batch", batch)
                 .add("dtype", flags.dtype)
                 .add("checkpoint", name_of(Checkpoint::automatic))
                 .add("memory_budget", budget)
                 .add("peak_activation_bytes", plan.peak_bytes)
                 .add("saved_activation_bytes", plan.saved_bytes)
                 .add("flops", plan.flops)
                 .add("replay_flops", plan.replay_flops));
}

void write_profile(const Flags& flags, const std::string& name, int64_t batch, const std::function<size_t()>& step,
                   JsonLines& json, std::ostream& out) {
  const Profile profile = profile_step(flags.device, step);
  out << "\n"
      << profile_table(profile) << "\nmeans, of a step of " << format_fixed(1e3 * profile.seconds, 2)
      << " ms; most, measured before and after: " << describe(profile.most)
      << ";\nof bound: the time that the roofline allows for the flops of the definitions, in shares of the time taken"
         "\n(a 3x3 convolution takes fewer, by Winograd's algorithm); drawn in profile.svg\n";
  AtomicFile file(profile_file);
  file.write(
      profile_svg(concat(name, ", ", flags.mode, ", batch ", batch, ", checkpoint ", flags.checkpoint), profile));
  file.commit();
  for (const KernelProfile& kernel : profile.kernels)
    json.write(Record("kernel")
                   .add("kernel", kernel.kernel)
                   .add("calls", kernel.calls)
                   .add("ms", 1e3 * kernel.seconds)
                   .add("flops", kernel.flops)
                   .add("bytes", kernel.bytes)
                   .add("least_ms", 1e3 * kernel.least_seconds)
                   .add("bound", bound_of(kernel)));
}

void run_model(const Flags& flags, JsonLines& json, std::ostream& out) {
  if (flags.profile) const AtomicFile probe(profile_file);  // throws where it cannot be written; leaves nothing
  const ModelInfo& info = model_info(flags.model);
  const int64_t batch = flags.batch.value_or(info.train.batch);
  LoadedModel loaded = prepared_model(flags, out);
  if (flags.mode == "infer") fold(loaded);
  out << "run    " << flags.mode << (flags.mode == "infer" ? " (folded)" : "") << ", batch " << batch << ", "
      << flags.device.str() << ", " << thread_pool().threads() << " threads, " << flags.dtype << ", checkpoint "
      << describe_policy(flags) << "\n\n"
      << std::flush;

  TapeOptions options{.checkpoint = checkpoint_of(flags.checkpoint)};
  options.memory_budget = flags.memory_budget.value_or(no_budget);
  if (flags.mode == "train")
    options.plan =
        plan_memory(options.checkpoint, options.memory_budget, batch, loss_of(loaded, flags.device), flags.device)
            .choices;
  const Batch images = synthetic_batch(loaded, batch, flags.device);
  if (!flags.graph.empty())
    draw_step(*loaded.model, images, options,
              concat(name_of(loaded), ", batch ", batch, ", checkpoint ", flags.checkpoint), flags.graph);
  const auto step = step_of(*loaded.model, images, options, flags.mode == "train");
  const Measurement m = measure(flags.device, least_seconds, step);
  const double images_per_second = static_cast<double>(batch) / m.median(), gflops = m.work.flops / m.median() / 1e9;

  Table table({"step ms", "least", "images/s", "GFLOP", "replayed", "GFLOP/s", "after forward", "peak", "resident"});
  table.add({format_fixed(1e3 * m.median(), 2), format_fixed(1e3 * m.least(), 2), format_fixed(images_per_second, 1),
             format_fixed(m.work.flops / 1e9, 3), format_fixed(m.work.replay_flops / 1e9, 3), format_fixed(gflops, 1),
             format_bytes(static_cast<int64_t>(m.saved_bytes)), format_bytes(static_cast<int64_t>(m.peak_bytes)),
             m.resident_bytes ? format_bytes(static_cast<int64_t>(*m.resident_bytes)) : "-"});
  out << table.str() << "\nmedian of " << m.seconds.size()
      << " steps; bytes are those of activations; resident: physical memory at most, beyond what was held before\n";

  if (flags.profile) write_profile(flags, name_of(loaded), batch, step, json, out);
  json.write(completed(Record("result").add("model", info.name), flags, batch, m));
}

// A row an op: milliseconds forward and (in training) backward, each by itself, and both; then rates of the longest of
// them, each with its share of the machine's ceiling.
void run_ops(const Flags& flags, JsonLines& json, std::ostream& out) {
  const std::vector<OpBench> rows = op_benches(flags.op);
  const bool training = flags.mode == "train";
  const Ceilings most = measure_ceilings(flags.device);
  out << "run    " << (training ? "forward and backward" : "forward") << ", " << flags.device.str() << ", "
      << thread_pool().threads() << " threads, " << flags.dtype << "\n"
      << "most   " << describe(most) << ", measured now\n\n"
      << std::flush;
  Table table({"op", "sizes", "forward ms", "backward", "both", "GFLOP/s", "of most", "GB/s", "of a copy"});
  for (const OpBench& row : rows) {
    const int64_t batch = flags.batch.value_or(row.batch());
    const auto timed = [&](OpPass pass) { return measure_op(row, batch, flags.device, pass); };
    const Measurement forward = timed(OpPass::forward), m = training ? timed(OpPass::both) : forward;
    std::optional<double> backward_ms;
    if (training && row.gradients) backward_ms = 1e3 * timed(OpPass::backward).median();
    const double flops = m.work.flops / m.median(), bytes = m.work.bytes / m.median();
    table.add({std::string(row.op->name), row.sizes, format_fixed(1e3 * forward.median(), 3),
               backward_ms ? format_fixed(*backward_ms, 3) : "-", training ? format_fixed(1e3 * m.median(), 3) : "-",
               format_fixed(flops / 1e9, 1), format_percent(flops / most.flops_per_second, 0),
               format_fixed(bytes / 1e9, 1), format_percent(bytes / most.bytes_per_second, 0)});
    const Record begin = Record("result").add("op", row.op->name).add("sizes", row.sizes);
    json.write(completed(begin, flags, batch, m)
                   .add("forward_ms_median", 1e3 * forward.median())
                   .add("backward_ms_median", backward_ms)
                   .add("bytes_per_second", bytes)
                   .add("most_flops_per_second", most.flops_per_second)
                   .add("most_bytes_per_second", most.bytes_per_second));
  }
  out << table.str()
      << "\nmedians; backward after a forward that does not count; bytes are the least that an op must move,\n"
         "flops those of its definition, of which some ops take fewer\n";
}

void run(const Flags& flags) {
  std::ostream& out = human_output(flags.json);
  if (flags.list_models) return list_models(out);
  JsonLines json(flags.json);
  if (!flags.op.empty()) return run_ops(flags, json, out);
  if (flags.fit) return run_fit(flags, json, out);
  flags.plan ? run_plan(flags, json, out) : run_model(flags, json, out);
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::bench, argc, argv, parabola::run); }
