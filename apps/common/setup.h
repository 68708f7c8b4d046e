// From flags to what an app works with: model, data, recipe, output folder.
#pragma once
#include <iosfwd>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "apps/common/evaluation.h"
#include "apps/common/flags.h"
#include "apps/common/records.h"
#include "apps/common/trainer.h"
#include "data/open.h"
#include "layers/models/models.h"
#include "layers/weights.h"

namespace parabola {

// Prints the registry, one model a line (--list-models).
void list_models(std::ostream& out);

// The registry's entry. UsageError with the nearest name where there is none.
const ModelInfo& model_info(const std::string& name);

// A model as a weights file holds it, adapters re-attached from its metadata, or a new one.
struct LoadedModel {
  const ModelInfo* info;
  std::unique_ptr<Module> model;
  Preprocessing preprocessing;  // the file's, where it names one; else the registry's
  std::optional<AdapterRecord> adapters;
};
LoadedModel load_model(const Flags& flags, int classes);      // that of --weights, folded where the file says so
LoadedModel load_trainable(const Flags& flags, int classes);  // the same; UsageError where it is folded
LoadedModel new_model(const Flags& flags, int classes);

// Folds the model for inference (Module::fold): it does not train any more. Adapters that have been merged are no
// longer in the record, the others have a scale of 1.
void fold(LoadedModel& loaded);

// The data of --data; what else was found there is written to `out`.
DataSplits open_data_for(const Flags& flags, const ModelInfo& info, std::ostream& out);

// With --skip-bad: leaves out the images that cannot be read, writes how many and which, and returns how many.
int64_t skip_bad_images(const Flags& flags, DatasetPtr& dataset, std::ostream& out);
int64_t skip_bad_images(const Flags& flags, DataSplits& data, std::ostream& out);  // of both splits

// "cifar10:DIR, 50,000 training and 10,000 test images", and how they become the model's.
std::string describe(const DataSplits& data, const Preprocessing& preprocessing);

// The recipe with the user's flags over it. images: of an epoch, for --warmup, which counts epochs.
Recipe recipe_for(const Flags& flags, const Recipe& usual, int64_t images);
Checkpoint checkpoint_of(const std::string& name);
std::string describe_policy(const Flags& flags);                               // "default", "auto, budget 256.0 MiB"
std::string describe(const Recipe& recipe, const Augmentation& augmentation);  // "adamw lr 0.01 ... batch 128 epochs 3"

// A trainer's settings as the flags say; the title is the caller's. what: which run this is, "train resnet20", and all
// that decides its result besides data, seed, weights and recipe; a saved state remembers that.
TrainerSettings settings_for(const Flags& flags, const std::string& what, const Recipe& recipe,
                             const Augmentation& augmentation, const Preprocessing& preprocessing);

// Makes a folder and those above it, and sees that it can be written to. UsageError naming the flag where not.
void make_folder(const std::string& flag, const std::string& folder);

// Makes the run's folder and sees that it can be written to. UsageError where not, or where a finished run is in it and
// neither --force nor --resume was given.
void open_run_folder(const Flags& flags);

// The metadata of a model file: format, model, classes (how many), class_names (a JSON array), preprocessing; adapters
// and folded ("true"), where it has such or is so.
std::map<std::string, std::string> metadata_for(const LoadedModel& loaded, const std::vector<std::string>& class_names);

// Writes a drawing, whole or not at all.
void write_drawing(const std::string& path, const std::string& svg);

// The keys that the result records of train and adapt share.
Record training_record(const std::string& model, const std::string& method, int64_t epochs, const TrainerResult& result,
                       const Module& module);

}  // namespace parabola
