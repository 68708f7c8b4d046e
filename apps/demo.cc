// demo: the whole of quadratic adaptation in one short run on real data. A network learns Fashion-MNIST, its images are
// shifted in a non-linear way, and four methods adapt it to them on equal terms: the same images, the same steps, the
// same grid of learning rates, chosen on validation images. What comes out is printed as it is.
#include <array>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "apps/common/adaptation.h"
#include "apps/common/demo_report.h"
#include "apps/common/demo_shift.h"
#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "data/idx.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/io/atomic_file.h"

namespace parabola {
namespace {

// The shift is made as strong as the first of these that costs the base so much of its top-1.
constexpr std::array strengths = {0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0};
constexpr double wanted_loss = 0.15;

constexpr std::array learning_rates = {3e-3, 1e-2, 3e-2};

struct Method {
  const char *name, *title;
  double step_cost;  // of a training step, in steps of full training; for the time left only
};
constexpr Method from_scratch{"base", "base", 1};
constexpr std::array methods = {Method{"head", "head only", 0.4}, Method{"lora", "LoRA", 0.9},
                                Method{"quadratic", "quadratic", 0.9}, Method{"full", "full fine-tuning", 1}};

constexpr int title_width = 18, number_width = 9;  // of the columns in stages 2 and 3

// How many images are trained on, and how often. The defaults take about a minute on two cores.
struct Sizes {
  int64_t base;        // clean training images of the base
  int64_t epochs;      // of the base and of each adaptation
  int64_t adaptation;  // shifted training images of each adaptation: the first of the base's
  int64_t search;      // the first of those, once: they try one learning rate
  int64_t validation;  // the last training images, which nothing trains on
};

Sizes sizes_for(const Flags& flags) {
  const int64_t base = flags.images.value_or(4000);
  const auto share = [&](int64_t part) { return std::max<int64_t>(1, base / part); };
  return {base, flags.epochs.value_or(3), 2 * share(5), share(5), share(10)};
}

void write_whole(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

class Demo {
 public:
  explicit Demo(const Flags& flags);  // opens the data; nothing is written yet
  void run(const std::string& programs);

 private:
  void make_room() const;
  void train_base();
  void shift_images();
  void adapt(const Method& method);
  double choose_learning_rate(const Method& method);
  void report(const std::string& programs) const;

  LoadedModel saved(const std::string& method) const;  // from its file
  void save(const LoadedModel& model, const std::string& method) const;
  LoadedModel prepared(const Method& method) const;
  DemoRun train(LoadedModel& model, const Method& method, const Recipe& recipe, const DatasetPtr& images,
                const DatasetPtr& test, const std::string& trying = "");
  Score measure(const std::string& label, const LoadedModel& model, const DatasetPtr& images);
  void keep(const LoadedModel& model, DemoRun run, int64_t images);
  DatasetPtr validation_of(const DataSplits& data) const;
  std::string file(const std::string& name) const { return flags_.out + "/" + name; }
  double steps(int64_t images) const;
  double work(double step_cost, int64_t epochs, int64_t images, int64_t measured) const;

  Flags flags_;
  Sizes sizes_;
  const ModelInfo& info_;
  DataSplits clean_, shifted_;
  Score before_;                  // of the base, on the shifted test images
  double validation_before_ = 0;  // the base's top-1 of the shifted validation images
  double work_left_ = 0;          // of the whole demo, in steps of full training
  std::vector<DemoRun> runs_;     // the base first
  std::vector<Record> records_;
  Progress progress_{std::cout};
};

Demo::Demo(const Flags& flags) : flags_(flags), sizes_(sizes_for(flags)), info_(model_info("convnext_mnist")) {
  if (flags_.out.empty()) flags_.out = "build/demo";
  flags_.model = info_.name;
  flags_.data = flags.data.empty() ? "fashion-mnist" : "fashion-mnist:" + flags.data;
  try {
    clean_ = open_data_for(flags_, info_, std::cout);
  } catch (const UsageError& error) {
    throw UsageError(
        concat(error.what(), "; Debian's package dataset-fashion-mnist has them, or --data names their folder"));
  }
  const int64_t available = clean_.train->size() - sizes_.validation;
  if (sizes_.base > available)
    throw UsageError(concat("--images: got ", sizes_.base, ", expected at most ", available,
                            ", the training images in ", flags_.data, " but ", sizes_.validation, " for validation"));
}

// An earlier demo's files go first: what lies in the folder is always of one run, and result.jsonl says that it is
// whole.
void Demo::make_room() const {
  make_folder("--out", flags_.out);
  make_folder("--out", file("shifted"));
  std::error_code error;
  for (const char* name : {"result.jsonl", "curves.svg", "base.safetensors"})
    std::filesystem::remove(file(name), error);
  for (const Method& method : methods) std::filesystem::remove(file(concat(method.name, ".safetensors")), error);
}

double Demo::steps(int64_t images) const {
  return std::ceil(static_cast<double>(images) / static_cast<double>(info_.train.batch));
}

// A step that only measures has no backward: about a third.
double Demo::work(double step_cost, int64_t epochs, int64_t images, int64_t measured) const {
  return step_cost * static_cast<double>(epochs) * steps(images) + steps(measured) / 3;
}

DatasetPtr Demo::validation_of(const DataSplits& data) const {
  return subset(data.train, data.train->size() - sizes_.validation, sizes_.validation);
}

LoadedModel Demo::saved(const std::string& method) const {
  Flags flags = flags_;
  flags.weights = file(method + ".safetensors");
  return load_model(flags, clean_.train->classes());
}

void Demo::save(const LoadedModel& model, const std::string& method) const {
  save_weights(*model.model, file(method + ".safetensors"), metadata_for(model, clean_.train->class_names()));
}

LoadedModel Demo::prepared(const Method& method) const {
  LoadedModel model = saved("base");
  prepare_adaptation(model, method.name, {}, flags_.seed);
  return model;
}

// One run. trying: what is tried with it; such a run, and the base's, is measured after its last epoch only, others by
// the validation images after each.
DemoRun Demo::train(LoadedModel& model, const Method& method, const Recipe& recipe, const DatasetPtr& images,
                    const DatasetPtr& test, const std::string& trying) {
  const bool final_only = !trying.empty() || &method == &from_scratch;
  work_left_ -= work(method.step_cost, recipe.epochs, images->size(), (final_only ? 1 : recipe.epochs) * test->size());
  Trainer trainer(*model.model, images, test,
                  {.recipe = recipe,
                   .seed = flags_.seed,
                   .augmentation = clean_.augment,
                   .preprocessing = model.preprocessing,
                   .final_only = final_only,
                   .label = concat(method.title, trying, "  "),
                   .steps_after = std::llround(std::max(0.0, work_left_) / method.step_cost)},
                  &progress_);
  DemoRun run{.method = method.name, .title = method.title, .learning_rate = recipe.learning_rate};
  run.trainable = parameter_count(*model.model, true);
  run.result = trainer.run();
  run.curves = trainer.curves();
  return run;
}

Score Demo::measure(const std::string& label, const LoadedModel& model, const DatasetPtr& images) {
  work_left_ -= work(0, 0, 0, images->size());
  progress_.begin(label, std::llround(steps(images->size())), 0, std::llround(std::max(0.0, 3 * work_left_)));
  const Score score = evaluate(*model.model, images, model.preprocessing, info_.train.batch,
                               [&](int64_t count) { progress_.step(count); });
  progress_.end();
  return score;
}

// Remembers the run and its record.
void Demo::keep(const LoadedModel& model, DemoRun run, int64_t images) {
  records_.push_back(training_record(info_.name, run.method, sizes_.epochs, run.result, *model.model)
                         .add("learning_rate", run.learning_rate)
                         .add("train_images", images)
                         .add("data", flags_.data)
                         .add("weights", run.method + ".safetensors"));
  runs_.push_back(std::move(run));
}

void Demo::train_base() {
  Recipe recipe = info_.train;
  recipe.epochs = sizes_.epochs;
  LoadedModel model = new_model(flags_, clean_.train->classes());
  std::cout << "1  A network learns the clean images\n   " << info_.name << ", "
            << format_count(parameter_count(*model.model)) << " parameters, " << format_count(sizes_.base)
            << " images, " << recipe.epochs << " epochs" << std::endl;
  DemoRun run = train(model, from_scratch, recipe, subset(clean_.train, 0, sizes_.base), clean_.test);
  std::cout << "   " << format_percent(run.result.test.top1()) << " of the test images right\n\n";
  save(model, run.method);
  keep(model, std::move(run), sizes_.base);
}

void Demo::shift_images() {
  LoadedModel model = saved("base");
  fold(model);
  const DatasetPtr validation = validation_of(clean_);
  std::cout << "2  The images are shifted: gamma 2.2, then the brighter half inverted\n"
            << "   strength 1 is just that; points of top-1 lost on " << format_count(validation->size())
            << " validation images:" << std::endl;
  const double clean = measure("clean", model, validation).top1();
  std::ostringstream header, lost;
  double strength = 0;
  for (double candidate : strengths) {
    strength = candidate;
    const DatasetPtr images = shifted_dataset(*validation, shifted_levels(strength));
    const double loss = clean - measure(concat("strength ", strength), model, images).top1();
    header << std::setw(number_width - 2) << strength;
    lost << std::setw(number_width - 2) << format_fixed(100 * loss, 1);
    validation_before_ = clean - loss;
    if (loss >= wanted_loss) break;
  }
  runs_.front().validation_top1 = clean;
  std::cout << "   strength   " << header.str() << "\n   points lost" << lost.str() << "\n";
  const Levels levels = shifted_levels(strength);
  for (const auto& [stem, split] : {std::pair{"train", clean_.train}, std::pair{"t10k", clean_.test}}) {
    const GreyImages images = shifted(*split, levels);
    write_idx_pair(file("shifted"), stem, split->height(), split->width(), images.pixels, images.labels);
  }
  flags_.data = "fashion-mnist:" + file("shifted");
  shifted_ = open_data_for(flags_, info_, std::cout);
  before_ = measure("shifted", model, shifted_.test);
  records_.front().add("top1_shifted", before_.top1());
  std::cout << "   at strength " << strength << " " << format_percent(before_.top1())
            << " of the shifted test images are right\n\n";
}

// Tries every learning rate for one epoch of fewer images. The validation images say which is best; the first wins
// ties.
double Demo::choose_learning_rate(const Method& method) {
  Recipe recipe = info_.adapt;
  recipe.epochs = 1;
  int64_t best_correct = -1;
  double best = 0;
  std::ostringstream row;
  row << "   " << std::left << std::setw(title_width) << method.title << std::right;
  for (double rate : learning_rates) {
    recipe.learning_rate = rate;
    LoadedModel model = prepared(method);
    Score score;
    try {
      score = train(model, method, recipe, subset(shifted_.train, 0, sizes_.search), validation_of(shifted_),
                    concat(", learning rate ", rate))
                  .result.test;
    } catch (const DivergedError&) {  // none right, then: another rate will do better
    }
    if (score.correct > best_correct) best = rate, best_correct = score.correct;
    row << std::setw(number_width) << format_percent(score.top1());
  }
  row << std::setw(number_width) << best;
  progress_.note(row.str());
  return best;
}

void Demo::adapt(const Method& method) {
  Recipe recipe = info_.adapt;
  recipe.epochs = sizes_.epochs;
  recipe.learning_rate = choose_learning_rate(method);
  LoadedModel model = prepared(method);
  DemoRun run = train(model, method, recipe, subset(shifted_.train, 0, sizes_.adaptation), validation_of(shifted_));
  save(model, method.name);
  LoadedModel adapted = saved(method.name);
  fold(adapted);
  run.result.test = measure(method.title, adapted, shifted_.test);
  run.result.top1_before = before_.top1();
  run.validation_top1 = validation_before_;
  keep(model, std::move(run), sizes_.adaptation);
}

void Demo::report(const std::string& programs) const {
  const DemoRun& base = runs_.front();
  const std::span<const DemoRun> adapted = std::span(runs_).subspan(1);
  std::string lines;
  for (const Record& record : records_) lines += record.str() + "\n";
  write_whole(file("curves.svg"), demo_curves(base, adapted));
  write_whole(file("result.jsonl"), lines);

  const std::string out = printable(flags_.out, 400), model = concat(" --model ", info_.name, " --weights ", out),
                    data = concat(" \\\n      --data ", printable(flags_.data, 400));
  std::cout << "\n4  What came out\n   Top-1 of all " << format_count(before_.images)
            << " shifted test images before and after; time and work of the training:\n\n"
            << demo_table(base, adapted) << "\n"
            << demo_verdict(base, adapted) << "One small network, one shift, one seed: --seed 2 draws anew.\n\n"
            << "Curves are in " << out << "/curves.svg, records in " << out << "/result.jsonl. Next:\n"
            << "  " << programs << "evaluate" << model << "/quadratic.safetensors" << data << "\n"
            << "  " << programs << "adapt" << model << "/base.safetensors" << data << " --rank 4 --limit 8000\n"
            << "  " << programs << "inspect " << out << "/quadratic.safetensors\n";
}

void Demo::run(const std::string& programs) {
  make_room();
  const int64_t test = clean_.test->size(), tries = static_cast<int64_t>(learning_rates.size());
  work_left_ =
      work(1, sizes_.epochs, sizes_.base, 2 * test + static_cast<int64_t>(strengths.size()) * sizes_.validation);
  for (const Method& method : methods)
    work_left_ += work(method.step_cost, sizes_.epochs, sizes_.adaptation, sizes_.epochs * sizes_.validation + test) +
                  work(method.step_cost, tries, sizes_.search, tries * sizes_.validation);
  std::cout
      << "Parabola: a network meets images of a kind it has not seen, and quadratic adapters teach it to read them\n\n"
      << "data   Fashion-MNIST, " << format_count(clean_.train->size()) << " training and " << format_count(test)
      << " test images\n"
      << "run    cpu, " << thread_pool().threads() << " threads, seed " << flags_.seed << ", files in "
      << printable(flags_.out, 400) << "\n\n";
  train_base();
  shift_images();
  std::cout
      << "3  Four methods adapt the base to " << format_count(sizes_.adaptation) << " shifted images in "
      << sizes_.epochs
      << " epochs\n   top-1 of the validation images after a short try of each learning rate, and the best one:\n   "
      << std::setw(title_width) << "";
  for (double rate : learning_rates) std::cout << std::setw(number_width) << rate;
  std::cout << std::setw(number_width) << "best" << std::endl;
  for (const Method& method : methods) adapt(method);
  report(programs);
}

void demo(const Flags& flags, const std::string& program) {
  // The commands that it ends with are to work as they stand: the other apps lie beside this one.
  const std::string folder = std::filesystem::path(program).parent_path().string();
  Demo(flags).run(folder.empty() ? "" : folder + "/");
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) {
  return parabola::run_app(parabola::App::demo, argc, argv,
                           [&](const parabola::Flags& flags) { parabola::demo(flags, argv[0]); });
}
