// adapt: the main job. Loads first-order weights, attaches adapters, trains them and the head, writes the adapted
// model.
#include <iostream>

#include "apps/common/adaptation.h"
#include "apps/common/graph.h"
#include "apps/common/memory_plan.h"
#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

void run(const Flags& given) {
  Flags flags = given;
  if (!flags.resume.empty() && flags.out.empty()) flags.out = flags.resume;
  std::ostream& out = human_output(flags.json);
  if (flags.list_models) return list_models(out);
  const ModelInfo& info = model_info(flags.model);
  DataSplits data = open_data_for(flags, info, out);
  const int64_t skipped = skip_bad_images(flags, data, out);
  const int classes = data.train->classes();
  LoadedModel loaded = load_trainable(flags, classes);
  if (loaded.adapters)
    throw UsageError(
        concat("--weights ", printable(flags.weights), ": has adapters already, expected a network without"));
  Recipe usual = info.adapt;
  if (flags.method == "full") usual.learning_rate = info.full_learning_rate;
  Recipe recipe = recipe_for(flags, usual, data.train->size());
  if (flags.method == "none") recipe.epochs = 0;
  const Augmentation augmentation = flags.augment.value_or(data.augment);

  const auto as_int = [](const std::optional<int64_t>& v) {
    return v ? std::optional<int>(static_cast<int>(*v)) : std::nullopt;
  };
  const AdapterOptions options{flags.method,           flags.match, as_int(flags.rank), as_int(flags.kernel),
                               as_int(flags.dilation), flags.scale};
  const int64_t base_parameters = parameter_count(*loaded.model);
  prepare_adaptation(loaded, flags.method, options, flags.seed);
  loaded.model->set_device(flags.device);
  Progress progress(out);
  const std::string step = concat("adapt ", info.name, ", batch ", recipe.batch, ", checkpoint ", flags.checkpoint);
  TrainerSettings settings = settings_for(flags,
                                          concat("adapt ", info.name, ", ", describe_method(flags.method, loaded),
                                                 " scale ", flags.scale.value_or(0), " bn ", flags.bn),
                                          recipe, augmentation, loaded.preprocessing);
  settings.title = "adapt " + info.name + " on " + flags.data + ", " + flags.method;
  settings.first_step = first_step_report(flags.graph, step, progress);
  Trainer trainer(*loaded.model, data.train, data.test, settings, &progress);
  // Before the folder is made, so that a budget that cannot be kept leaves nothing behind.
  const std::string plan = recipe.epochs > 0 ? concat("plan    ", describe(trainer.plan()), "\n") : "";
  open_run_folder(flags);
  JsonLines json(flags.json);
  out << "model   " << info.name << ", " << format_count(base_parameters) << " parameters from "
      << printable(flags.weights) << "\n"
      << "method  " << describe_method(flags.method, loaded) << ", "
      << format_count(parameter_count(*loaded.model, true)) << " trainable parameters\n"
      << "data    " << describe(data, loaded.preprocessing) << "\n"
      << "recipe  " << describe(recipe, augmentation) << "\n"
      << "run     " << flags.device.str() << ", " << thread_pool().threads() << " threads, checkpoint "
      << describe_policy(flags) << ", seed " << flags.seed << "\n"
      << plan;

  const bool resumed = !flags.resume.empty() && trainer.resume(flags.resume);
  trainer.dry_run();
  if (resumed) {
    out << "resumed from " << printable(flags.resume) << "\n";
  } else {
    // The adapters still contribute nothing: this is the base's own score.
    const int64_t batches = (data.test->size() + recipe.batch - 1) / recipe.batch;
    progress.begin("before", batches, 0, recipe.epochs * recipe.steps_per_epoch(data.train->size()));
    const Score before =
        evaluate(*loaded.model, data.test, loaded.preprocessing, recipe.batch, [&](int64_t n) { progress.step(n); });
    progress.end(concat("before: test top-1 ", format_percent(before.top1())));
    trainer.set_top1_before(before.top1());
    if (flags.bn == "adapt")
      reestimate_statistics(*loaded.model, data.train, augmentation, loaded.preprocessing, recipe.batch, flags.seed,
                            &progress);
  }
  const TrainerResult result = trainer.run();
  Record record = training_record(info.name, flags.method, recipe.epochs, result, *loaded.model);
  if (flags.skip_bad) record.add("skipped_images", skipped);
  if (!flags.out.empty()) {
    write_drawing(flags.out + "/curves.svg", curves_svg(trainer.curves()));
    if (recipe.epochs > 0) write_drawing(flags.out + "/memory.svg", trainer.memory_svg());
    trainer.log(record);
    save_adaptation(loaded, flags.method, flags.bn == "adapt", data.train->class_names(), flags.out);
  }
  out << info.name << ", " << flags.method << ": test top-1 " << format_percent(result.top1_before) << " before, "
      << format_percent(result.test.top1()) << " after " << recipe.epochs
      << (recipe.epochs == 1 ? " epoch, " : " epochs, ") << format_duration(result.seconds) << ", "
      << static_cast<int64_t>(result.images_per_second) << " images/s\n";
  json.write(record);
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::adapt, argc, argv, parabola::run); }
