// evaluate: top-1 and top-5 of a model and weights on a data set.
#include <iostream>

#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/io/atomic_file.h"

namespace parabola {
namespace {

// Classes are called as in the file that it was folded from, where that names them.
void save_folded(const Flags& flags, const LoadedModel& loaded, const std::vector<std::string>& class_names) {
  std::map<std::string, std::string> metadata = metadata_for(loaded, class_names);
  const Safetensors file(flags.weights);
  if (const auto names = file.metadata().find("class_names"); names != file.metadata().end())
    metadata["class_names"] = names->second;
  save_weights(*loaded.model, flags.save_folded, metadata);
}

void run(const Flags& flags) {
  std::ostream& out = human_output(flags.json);
  if (flags.list_models) return list_models(out);
  const ModelInfo& info = model_info(flags.model);
  const DataSplits data = open_data_for(flags, info, out);
  DatasetPtr images = flags.split == "train" ? data.train : data.test;
  const int64_t skipped = skip_bad_images(flags, images, out);
  JsonLines json(flags.json);
  LoadedModel loaded = load_model(flags, images->classes());
  fold(loaded);
  if (!flags.save_folded.empty()) const AtomicFile probe(flags.save_folded);  // throws where it cannot be written
  loaded.model->set_device(flags.device);
  const int64_t batch = flags.batch.value_or(128);
  Progress progress(out);
  progress.begin(images->name(), (images->size() + batch - 1) / batch);
  const Score score =
      evaluate(*loaded.model, images, loaded.preprocessing, batch, [&](int64_t n) { progress.step(n); });
  progress.end();
  if (!flags.save_folded.empty()) save_folded(flags, loaded, images->class_names());
  out << info.name << " on " << images->name() << ": " << format_count(score.correct) << " of "
      << format_count(score.images) << " right, top-1 " << format_percent(score.top1()) << ", top-5 "
      << format_percent(score.top5()) << ", " << format_duration(score.seconds) << "\n";
  Record record("result");
  record.add("model", info.name)
      .add("data", flags.data)
      .add("images", score.images)
      .add("correct", score.correct)
      .add("top1", score.top1())
      .add("top5", score.top5())
      .add("seconds", score.seconds);
  if (flags.skip_bad) record.add("skipped_images", skipped);
  json.write(record);
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::evaluate, argc, argv, parabola::run); }
