// train: a model from scratch (or from --weights), with state, log, curves and the model as files.
#include <iostream>

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
  LoadedModel loaded = flags.weights.empty() ? new_model(flags, classes) : load_trainable(flags, classes);
  loaded.model->set_device(flags.device);
  const Recipe recipe = recipe_for(flags, info.train, data.train->size());
  const Augmentation augmentation = flags.augment.value_or(data.augment);
  Progress progress(out);
  const std::string step = concat("train ", info.name, ", batch ", recipe.batch, ", checkpoint ", flags.checkpoint);
  TrainerSettings settings = settings_for(flags, "train " + info.name, recipe, augmentation, loaded.preprocessing);
  settings.title = "train " + info.name + " on " + flags.data;
  settings.first_step = first_step_report(flags.graph, step, progress);
  Trainer trainer(*loaded.model, data.train, data.test, settings, &progress);
  // Before the folder is made, so that a budget that cannot be kept leaves nothing behind.
  const std::string plan = recipe.epochs > 0 ? concat("plan    ", describe(trainer.plan()), "\n") : "";
  open_run_folder(flags);
  JsonLines json(flags.json);

  out << "model   " << info.name << ", " << format_count(parameter_count(*loaded.model)) << " parameters\n"
      << "data    " << describe(data, loaded.preprocessing) << "\n"
      << "recipe  " << describe(recipe, augmentation) << "\n"
      << "run     " << flags.device.str() << ", " << thread_pool().threads() << " threads, checkpoint "
      << describe_policy(flags) << ", seed " << flags.seed << "\n"
      << plan;
  if (!flags.resume.empty() && trainer.resume(flags.resume)) out << "resumed from " << printable(flags.resume) << "\n";
  trainer.dry_run();
  const TrainerResult result = trainer.run();
  Record record = training_record(info.name, "scratch", recipe.epochs, result, *loaded.model);
  if (flags.skip_bad) record.add("skipped_images", skipped);
  if (!flags.out.empty()) {
    write_drawing(flags.out + "/curves.svg", curves_svg(trainer.curves()));
    if (recipe.epochs > 0) write_drawing(flags.out + "/memory.svg", trainer.memory_svg());
    trainer.log(record);
    save_weights(*loaded.model, flags.out + "/model.safetensors", metadata_for(loaded, data.train->class_names()));
  }
  out << info.name << ": test top-1 " << format_percent(result.test.top1()) << " after " << recipe.epochs
      << (recipe.epochs == 1 ? " epoch, " : " epochs, ") << format_duration(result.seconds) << ", "
      << static_cast<int64_t>(result.images_per_second) << " images/s\n";
  json.write(record);
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::train, argc, argv, parabola::run); }
