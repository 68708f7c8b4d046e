#include "apps/common/setup.h"

#include <cmath>
#include <filesystem>
#include <iomanip>
#include <ostream>

#include "apps/common/text.h"
#include "data/class_names.h"
#include "data/image_folder.h"
#include "engine/core/error.h"
#include "engine/io/atomic_file.h"

namespace parabola {

void list_models(std::ostream& out) {
  size_t width = 0;
  for (const ModelInfo& model : models::all()) width = std::max(width, model.name.size());
  for (const ModelInfo& model : models::all())
    out << std::left << std::setw(static_cast<int>(width) + 2) << model.name << model.summary << "\n";
}

const ModelInfo& model_info(const std::string& name) {
  std::vector<std::string> names;
  for (const ModelInfo& model : models::all()) {
    if (model.name == name) return model;
    names.push_back(model.name);
  }
  const std::string near = nearest_word(name, names);
  throw UsageError(concat("--model ", printable(name), ": unknown model, expected one of --list-models",
                          near.empty() ? "" : "; did you mean " + near + "?"));
}

LoadedModel new_model(const Flags& flags, int classes) {
  const ModelInfo& info = model_info(flags.model);
  return {&info,
          models::create(flags.model, {.classes = classes}, flags.seed),
          Preprocessing::parse(info.preprocessing),
          {}};
}

LoadedModel load_model(const Flags& flags, int classes) {
  LoadedModel loaded = new_model(flags, classes);
  const Safetensors file(flags.weights);
  const auto value = [&](const char* key) -> const std::string* {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? nullptr : &found->second;
  };
  if (const std::string* model = value("model"); model && *model != flags.model)
    throw UsageError(
        concat("--weights ", printable(flags.weights), ": holds a ", printable(*model), ", expected a ", flags.model));
  if (const std::string* text = value("preprocessing")) loaded.preprocessing = Preprocessing::parse(*text);
  if (const std::string* text = value("adapters")) {
    loaded.adapters = AdapterRecord::parse(*text);
    attach_adapters(*loaded.model, loaded.adapters->specs, 0);
  }
  if (const std::string* folded = value("folded")) {
    if (*folded != "true")
      throw FormatError(
          concat(printable_path(flags.weights), ": metadata 'folded': got ", printable(*folded), ", expected true"));
    fold(loaded);
  }
  load_weights(*loaded.model, file, {.allow_missing = flags.allow_missing});
  return loaded;
}

LoadedModel load_trainable(const Flags& flags, int classes) {
  LoadedModel loaded = load_model(flags, classes);
  if (loaded.model->folded())
    throw UsageError(concat("--weights ", printable(flags.weights), ": holds a ", flags.model,
                            " folded for inference, which cannot train, expected the weights that it was folded from"));
  return loaded;
}

void fold(LoadedModel& loaded) {
  Module& model = *loaded.model;
  model.set_training(false);
  model.fold();
  if (!loaded.adapters) return;
  std::vector<AdapterSpec> left;
  for (AdapterSpec& spec : loaded.adapters->specs)
    for (auto& [name, module] : model.modules())
      if (name == spec.layer && dynamic_cast<Host&>(*module).adapter()) {
        left.push_back(spec);
        left.back().scale = 1;
      }
  loaded.adapters->specs = std::move(left);
  if (loaded.adapters->specs.empty()) loaded.adapters.reset();
}

DataSplits open_data_for(const Flags& flags, const ModelInfo& info, std::ostream& out) {
  const Preprocessing preprocessing = Preprocessing::parse(info.preprocessing);
  DataSplits data = open_data(flags.data, flags.limit.value_or(0), {preprocessing.height, preprocessing.width});
  for (const std::string& note : data.notes) out << "note    " << note << "\n";
  return data;
}

int64_t skip_bad_images(const Flags& flags, DatasetPtr& dataset, std::ostream& out) {
  if (!flags.skip_bad) return 0;
  std::vector<std::string> bad;
  dataset = sound_images(dataset, bad);
  const auto skipped = std::ssize(bad);
  out << "skipped " << format_count(skipped) << " of " << format_count(dataset->size() + skipped) << " images of "
      << printable(dataset->name()) << "\n";
  for (const std::string& reason : bad) out << "        " << reason << "\n";
  return skipped;
}

int64_t skip_bad_images(const Flags& flags, DataSplits& data, std::ostream& out) {
  const bool both = data.train == data.test;
  const int64_t skipped = skip_bad_images(flags, data.train, out);
  if (!both) return skipped + skip_bad_images(flags, data.test, out);
  data.test = data.train;
  return skipped;
}

std::string describe(const DataSplits& data, const Preprocessing& how) {
  std::string text = concat(printable(data.spec, 400), ", ", format_count(data.train->size()), " training and ",
                            format_count(data.test->size()), " test images");
  const bool fits = data.train->height() == how.height && data.train->width() == how.width;
  if (how.resize)
    text += concat(", shorter side to ", how.resize, ", of which the middle ", how.height, "x", how.width);
  else if (!fits)
    text += concat(", resized to ", how.height, "x", how.width);
  return text;
}

Recipe recipe_for(const Flags& flags, const Recipe& usual, int64_t images) {
  Recipe recipe = usual;
  if (flags.optimizer) recipe.optimizer = *flags.optimizer;
  if (flags.lr) recipe.learning_rate = *flags.lr;
  if (flags.momentum) recipe.momentum = *flags.momentum;
  recipe.nesterov = flags.nesterov;
  if (flags.weight_decay) recipe.weight_decay = *flags.weight_decay;
  if (flags.schedule) recipe.schedule = *flags.schedule;
  if (flags.clip) recipe.clip = *flags.clip;
  if (flags.batch) recipe.batch = *flags.batch;
  if (flags.epochs) recipe.epochs = *flags.epochs;
  recipe.layer_decay = flags.layer_decay;
  recipe.ema = flags.ema;
  recipe.label_smoothing = flags.label_smoothing;
  recipe.accumulate = flags.accumulate;
  if (flags.warmup)
    recipe.warmup_steps = std::llround(*flags.warmup * static_cast<double>(recipe.steps_per_epoch(images)));
  if (recipe.nesterov && (recipe.optimizer != "sgd" || recipe.momentum == 0))
    throw UsageError(concat("--nesterov: no effect with ", recipe.optimizer, " at a momentum of ", recipe.momentum,
                            ", expected sgd with a momentum above 0"));
  return recipe;
}

Checkpoint checkpoint_of(const std::string& name) {
  for (Checkpoint policy : {Checkpoint::none, Checkpoint::standard, Checkpoint::blocks, Checkpoint::automatic})
    if (name == name_of(policy)) return policy;
  throw UsageError(
      concat("--checkpoint ", printable(name), ": unknown policy, expected none, default, blocks or auto"));
}

std::string describe_policy(const Flags& flags) {
  return flags.checkpoint + (flags.memory_budget ? ", budget " + bytes_text(*flags.memory_budget) : "");
}

std::string describe(const Recipe& r, const Augmentation& augmentation) {
  std::string text = concat(r.optimizer, " lr ", r.learning_rate);
  if (r.optimizer == "sgd") text += concat(r.nesterov ? " Nesterov momentum " : " momentum ", r.momentum);
  text += concat(" weight decay ", r.weight_decay, ", ", r.schedule, " schedule, ", r.warmup_steps,
                 " warm-up steps, clip ");
  text += r.clip > 0 ? concat(r.clip) : std::string("none");
  if (r.layer_decay < 1) text += concat(", layer decay ", r.layer_decay);
  if (r.ema > 0) text += concat(", ema ", r.ema);
  if (r.label_smoothing > 0) text += concat(", label smoothing ", r.label_smoothing);
  if (r.accumulate > 1) text += concat(", ", r.accumulate, " batches a step");
  return text + concat(", batch ", r.batch, ", epochs ", r.epochs, ", augment ", augmentation.str());
}

TrainerSettings settings_for(const Flags& flags, const std::string& what, const Recipe& recipe,
                             const Augmentation& augmentation, const Preprocessing& preprocessing) {
  return {.fingerprint =
              concat(what, ", data ", flags.data, " limit ", flags.limit.value_or(0), flags.skip_bad ? " skip bad" : "",
                     ", seed ", flags.seed, ", weights '", flags.weights, "', ", describe(recipe, augmentation)),
          .recipe = recipe,
          .seed = flags.seed,
          .augmentation = augmentation,
          .preprocessing = preprocessing,
          .checkpoint = checkpoint_of(flags.checkpoint),
          .memory_budget = flags.memory_budget.value_or(no_budget),
          .folder = flags.out,
          .save_every = flags.save_every};
}

void make_folder(const std::string& flag, const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw UsageError(
        concat(flag, " ", printable(folder), ": cannot be created: ", error.message(), ", expected a folder"));
  const AtomicFile probe(folder + "/probe");  // throws where the folder cannot be written to; leaves nothing
}

void open_run_folder(const Flags& flags) {
  if (flags.out.empty()) return;
  if (!flags.force && flags.resume.empty() && std::filesystem::exists(flags.out + "/model.safetensors"))
    throw UsageError(concat("--out ", printable(flags.out),
                            ": a finished run is there, expected --force to overwrite it or --resume"));
  make_folder("--out", flags.out);
  std::error_code error;
  if (flags.resume.empty()) std::filesystem::remove_all(flags.out + "/state", error);
}

std::map<std::string, std::string> metadata_for(const LoadedModel& loaded,
                                                const std::vector<std::string>& class_names) {
  std::vector<std::string> names;  // as JSON can hold them: folders may be called anything
  for (const std::string& name : class_names) names.push_back(valid_utf8(name));
  std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                 {"model", loaded.info->name},
                                                 {"classes", std::to_string(class_names.size())},
                                                 {"class_names", class_names_json(names)},
                                                 {"preprocessing", loaded.preprocessing.str()}};
  if (loaded.adapters) metadata["adapters"] = loaded.adapters->str();
  if (loaded.model->folded()) metadata["folded"] = "true";
  return metadata;
}

void write_drawing(const std::string& path, const std::string& svg) {
  AtomicFile file(path);
  file.write(svg);
  file.commit();
}

Record training_record(const std::string& model, const std::string& method, int64_t epochs, const TrainerResult& result,
                       const Module& module) {
  Record record("result");
  record.add("model", model)
      .add("method", method)
      .add("epochs", epochs)
      .add("steps", result.steps)
      .add("train_loss", result.train_loss)
      .add("top1", result.test.top1());
  if (!std::isnan(result.top1_before)) record.add("top1_before", result.top1_before);
  return record.add("parameters", parameter_count(module))
      .add("trainable_parameters", parameter_count(module, true))
      .add("seconds", result.seconds)
      .add("images_per_second", result.images_per_second)
      .add("peak_activation_bytes", result.peak_activation_bytes)
      .add("train_flops", result.flops)
      .add("replay_flops", result.replay_flops);
}

}  // namespace parabola
