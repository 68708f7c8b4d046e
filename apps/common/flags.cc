#include "apps/common/flags.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>

#include "apps/common/flag_values.h"
#include "apps/common/graph.h"
#include "apps/common/text.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

using namespace flag_values;
using Apps = unsigned;

constexpr Apps train = static_cast<Apps>(App::train), adapt = static_cast<Apps>(App::adapt),
               evaluate = static_cast<Apps>(App::evaluate), bench = static_cast<Apps>(App::bench),
               inspect = static_cast<Apps>(App::inspect), demo = static_cast<Apps>(App::demo),
               predict = static_cast<Apps>(App::predict), all = train | adapt | evaluate | predict | bench | inspect;

constexpr struct {
  Apps app;
  const char *name, *job, *usage;
} app_table[] = {
    {train, "train", "train a model from scratch, or resume", "train --model NAME --data SPEC [FLAGS]"},
    {adapt, "adapt", "quadratic adaptation: load first-order weights, attach adapters, train in stages",
     "adapt --model NAME --weights FILE --data SPEC [FLAGS]"},
    {evaluate, "evaluate", "top-1 and top-5 of a model and weights on a data set",
     "evaluate --model NAME --weights FILE --data SPEC [FLAGS]"},
    {predict, "predict", "classes of image files (PNG, JPEG, BMP) with probabilities",
     "predict --model NAME --weights FILE IMAGE... [FLAGS]"},
    {bench, "bench", "time and memory of one model's training or inference step", "bench --model NAME [FLAGS]"},
    {inspect, "inspect", "what a .safetensors file (or index.json) holds, or what is wrong with it",
     "inspect FILE... [FLAGS]"},
    {demo, "demo", "the main job on Fashion-MNIST: train a network, shift its images, adapt it in four ways",
     "demo [FLAGS]"},
};

// ---- The command line

// CLI11's help without its own usage line, which says little, and with one empty line between groups.
class Layout : public CLI::Formatter {
  std::string make_usage(const CLI::App*, std::string) const override { return "\n"; }
  std::string make_group(std::string group, bool positional, std::vector<const CLI::Option*> options) const override {
    return Formatter::make_group(std::move(group), positional, std::move(options)).substr(1);
  }
};

// CLI11 cuts the command line into flags and values and lays out the help; ranges, meaning and messages are ours.
class Parser {
 public:
  explicit Parser(App app) : app_(static_cast<Apps>(app)) {
    for (const auto& row : app_table) {
      if (row.app != app_) continue;
      name_ = row.name;
      cli_.description(concat(row.name, ": ", row.job, "\n\nUsage: ", row.usage));
    }
    cli_.formatter(std::make_shared<Layout>());
    cli_.set_help_flag();
    cli_.allow_extras();
    cli_.get_formatter()->column_width(27);
  }

  void group(const char* name) { group_ = name; }

  void help() { cli_.set_help_flag("-h,--help", "this text")->group(group_); }

  // A flag with a value; `help` says the default.
  void value(Apps apps, const char* flag, const char* unit, const char* help, std::function<void(Text)> store) {
    if (CLI::Option* option = add(apps, flag, help)) {
      option->option_text(unit)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      entries_.push_back({option, flag, std::move(store)});
    }
  }
  void repeatable(Apps apps, const char* flag, const char* unit, const char* help, std::function<void(Text)> store) {
    value(apps, flag, unit, help, std::move(store));
    if (offers(apps)) entries_.back().repeatable = true;
  }
  void toggle(Apps apps, const char* flag, const char* help, bool& target) {
    if (CLI::Option* option = add(apps, flag, help)) {
      option->expected(0)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      entries_.push_back({option, flag, [&target](Text text) {
                            if (text != "true") refuse("got ", in_quotes(text), ", expected no value");
                            target = true;
                          }});
    }
  }
  void files(Apps apps, std::vector<std::string>& target) {
    if (offers(apps)) positionals_ = &target;
  }

  bool given(const char* flag) const {
    for (const Entry& entry : entries_)
      if (entry.flag == Text(flag)) return entry.option->count() > 0;
    return false;
  }

  void parse(int argc, const char* const* argv) {
    std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    for (const std::string& argument : arguments) {
      // CLI11 would end quietly at "++", its terminator of subcommands, and read "--model= --data" as a model "--data".
      if (argument == "++") refuse_argument(argument);
      if (argument.starts_with("--") && argument.find('=') == argument.size() - 1) refuse_no_value(argument);
    }
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    try {
      cli_.parse(arguments);
    } catch (const CLI::CallForHelp&) {
      throw HelpRequest{cli_.help()};
    } catch (const CLI::ArgumentMismatch& error) {  // "--batch: 1 required N missing"
      const Text text = error.what();
      refuse_no_value(text.substr(0, text.find(':')));
    }
    bool flags_ended = false;
    for (const std::string& argument : cli_.remaining()) {
      if (argument == "--" && !flags_ended) {
        flags_ended = true;
      } else if (positionals_ != nullptr && (flags_ended || !argument.starts_with("-"))) {
        positionals_->push_back(argument);
      } else {
        refuse_argument(argument);
      }
    }
  }

  // Hands the values to their readers, in the order of the table.
  void store() const {
    for (const Entry& entry : entries_) {
      const std::vector<std::string>& values = entry.option->results();
      try {
        if (values.size() > 1 && !entry.repeatable) refuse("given ", values.size(), " times, expected once");
        for (const std::string& value : values) {
          // "--out --force": the value was forgotten. A file of such a name can be given as ./--name.
          if (value.starts_with("--")) refuse("got the flag ", in_quotes(value), ", expected a value");
          entry.store(value);
        }
      } catch (const Refusal& refusal) {
        throw UsageError(entry.flag + ": " + refusal.text);
      }
    }
  }

 private:
  struct Entry {
    CLI::Option* option;
    std::string flag;
    std::function<void(Text)> store;
    bool repeatable = false;
  };
  struct Known {
    std::string flag;
    Apps apps;
  };

  bool offers(Apps apps) const { return (apps & app_) != 0; }

  CLI::Option* add(Apps apps, const char* flag, const char* help) {
    known_.push_back({flag, apps});
    if (!offers(apps)) return nullptr;
    const auto keep_as_text = [](const std::vector<std::string>&) { return true; };
    return cli_.add_option(flag, keep_as_text, help)->group(group_);
  }

  static std::string join(const Words& words) {
    std::string out;
    for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
  }

  [[noreturn]] static void refuse_no_value(Text flag) {
    throw UsageError(concat(printable(flag, 60), ": no value given, expected one behind it"));
  }

  // `argument` is none of this app's: another app's flag, a slip, or no flag at all.
  [[noreturn]] void refuse_argument(const std::string& argument) const {
    const std::string shown = printable(argument, 60);
    if (!argument.starts_with("-"))
      throw UsageError(
          concat(shown, ": not a flag, expected ", name_, "'s flags only (", name_, " --help lists them)"));
    const std::string flag = argument.substr(0, argument.find('='));
    Words names{"help"}, owners;
    for (const Known& known : known_) {
      if (offers(known.apps)) names.push_back(known.flag.substr(2));
      if (known.flag != flag) continue;
      for (const auto& row : app_table)
        if (known.apps & row.app) owners.push_back(row.name);
    }
    if (!owners.empty()) throw UsageError(concat(flag, ": not a flag of ", name_, ", expected with ", either(owners)));
    const std::string meant = nearest_word(flag.substr(std::min(flag.find_first_not_of('-'), flag.size())), names);
    throw UsageError(
        printable(flag, 60) + ": unknown flag, " +
        (meant.empty() ? "expected one of those that " + name_ + " --help lists" : "did you mean --" + meant + "?"));
  }

  Apps app_;
  std::string name_, group_;
  CLI::App cli_;
  std::vector<Entry> entries_;
  std::vector<Known> known_;  // every flag of every app
  std::vector<std::string>* positionals_ = nullptr;
};

// INTERFACE.md's table of flags.
void declare(Parser& p, Flags& f) {
  p.group("Model and weights");
  p.value(train | adapt | evaluate | predict | bench, "--model", "NAME", "a model of the registry (required)",
          [&](Text t) { f.model = some_text(t, "a model's name"); });
  p.toggle(train | adapt | evaluate | predict | bench, "--list-models", "print the registry's names and end",
           f.list_models);
  p.value(train | adapt | evaluate | predict, "--weights", "FILE",
          "a .safetensors file or a sharded model.safetensors.index.json",
          [&](Text t) { f.weights = some_text(t, "a file"); });
  p.repeatable(train | adapt | evaluate | predict, "--allow-missing", "PATTERN",
               "tensors that --weights may lack, * for any text; may be repeated",
               [&](Text t) { f.allow_missing.push_back(some_text(t, "a pattern")); });
  p.files(inspect | predict, f.files);

  p.group("Data");
  p.value(
      train | adapt | evaluate, "--data", "SPEC",
      "fashion-mnist[:DIR], mnist:DIR, cifar10:DIR, cifar100:DIR,\nimagefolder:DIR or synthetic[:CLASSES] (required)",
      [&](Text t) { f.data = some_text(t, "a data set"); });
  p.value(demo, "--data", "DIR", "folder of Fashion-MNIST (default: Debian's dataset-fashion-mnist)",
          [&](Text t) { f.data = some_text(t, "a folder"); });
  p.value(demo, "--images", "N", "training images of the base (default 6000); adaptations get two\nfifths of them",
          [&](Text t) { f.images = whole(t, 1); });
  p.value(evaluate, "--split", "NAME", "test or train (default test)", [&](Text t) {
    f.split = choice(t, {"test", "train"});
  });
  p.value(train | adapt | evaluate, "--limit", "N", "the first N images of each split (default: all)",
          [&](Text t) { f.limit = whole(t, 1); });
  p.toggle(train | adapt | evaluate, "--skip-bad", "leave out and name the images that cannot be read (reads all once)",
           f.skip_bad);
  p.value(train | adapt | evaluate | bench, "--batch", "N", "images in a step (default: the recipe's)",
          [&](Text t) { f.batch = whole(t, 1); });
  p.value(bench, "--image-size", "N", "height and width of the images (default: the model's)",
          [&](Text t) { f.image_size = whole(t, 1, 4096); });
  p.value(train | adapt, "--augment", "LIST",
          "of crop,flip,rrc,jitter,cutout,mixup,cutmix, or none (default: the\ndata set's usual)",
          [&](Text t) { f.augment = augmentation(t); });

  p.value(predict, "--classes", "FILE", "class names, one a line (default: those of the weights, else numbers)",
          [&](Text t) { f.classes = some_text(t, "a file"); });
  p.value(predict, "--top", "K", "classes shown of each image (default 5)", [&](Text t) { f.top = whole(t, 1); });

  p.group("Training (defaults: the model's recipe, printed at the start)");
  p.value(train | adapt, "--epochs", "N", "passes over the training images; 0 loads, evaluates and saves",
          [&](Text t) { f.epochs = whole(t, 0); });
  p.value(demo, "--epochs", "N", "passes over the training images, in every run (default 3)",
          [&](Text t) { f.epochs = whole(t, 1); });
  p.value(train | adapt | demo, "--seed", "N", "of every random draw (default 1)", [&](Text t) {
    if (!read_number(t, f.seed)) refuse("got ", in_quotes(t), ", expected a whole number from 0 to 2^64 - 1");
  });
  p.value(train | adapt, "--optimizer", "NAME", "sgd or adamw", [&](Text t) {
    f.optimizer = choice(t, {"sgd", "adamw"});
  });
  p.value(train | adapt, "--lr", "X", "learning rate", [&](Text t) { f.lr = not_negative(t); });
  p.value(train | adapt, "--momentum", "X", "of sgd, below 1", [&](Text t) { f.momentum = below_one(t); });
  p.toggle(train | adapt, "--nesterov", "of sgd: Nesterov's form of the momentum", f.nesterov);
  p.value(train | adapt, "--weight-decay", "X", "pull of the weights towards zero",
          [&](Text t) { f.weight_decay = not_negative(t); });
  p.value(train | adapt, "--schedule", "NAME",
          "of the learning rate: constant, cosine, or step: a tenth after half\nof the steps, a hundredth after three "
          "quarters",
          [&](Text t) {
            f.schedule = choice(t, {"constant", "step", "cosine"});
          });
  p.value(train | adapt, "--warmup", "EPOCHS", "the learning rate rises over these",
          [&](Text t) { f.warmup = not_negative(t); });
  p.value(train | adapt, "--clip", "NORM", "largest norm of the whole gradient; 0: no clipping",
          [&](Text t) { f.clip = not_negative(t); });
  p.value(train | adapt, "--accumulate", "N", "batches whose gradients are averaged for one step (default 1)",
          [&](Text t) { f.accumulate = whole(t, 1); });
  p.value(train | adapt, "--layer-decay", "X", "each layer's learning rate is X times that of the next (default 1)",
          [&](Text t) {
            const char* expected = "a number above 0, at most 1";
            f.layer_decay = number(t, 0, expected);
            if (f.layer_decay == 0 || f.layer_decay > 1) refuse("got ", in_quotes(t), ", expected ", expected);
          });
  p.value(train | adapt, "--ema", "DECAY",
          "evaluate and save the weights' moving average, of this decay; 0: the\nweights themselves (default)",
          [&](Text t) { f.ema = below_one(t); });
  p.value(train | adapt, "--label-smoothing", "X", "share of the target that all classes have alike (default 0)",
          [&](Text t) { f.label_smoothing = below_one(t); });

  p.group("Adapters");
  p.value(adapt, "--method", "NAME", "quadratic, lora, head, full or none (default quadratic)", [&](Text t) {
    f.method = choice(t, {"quadratic", "lora", "head", "full", "none"});
  });
  p.value(adapt, "--bn", "NAME", "BatchNorm statistics of the base: frozen or adapt (default frozen)", [&](Text t) {
    f.bn = choice(t, {"frozen", "adapt"});
  });
  p.toggle(bench, "--adapt", "the model with adapters; base frozen, norms and head trained", f.adapt);
  p.value(adapt | bench, "--match", "PATTERN",
          "layers that get one; * crosses dots (default: every depthwise\nconvolution, else every convolution larger "
          "than 1x1)",
          [&](Text t) { f.match = some_text(t, "a pattern"); });
  p.value(adapt | bench, "--rank", "N", "products in an output (default 2; lora: by the quadratic count)",
          [&](Text t) { f.rank = whole(t, 1); });
  p.value(adapt | bench, "--kernel", "K", "of the adapter (default: 3 on depthwise layers, else the host's)",
          [&](Text t) { f.kernel = whole(t, 1); });
  p.value(adapt | bench, "--dilation", "D", "of its kernel (default: (k-1)/2 on depthwise, else the host's)",
          [&](Text t) { f.dilation = whole(t, 1); });
  p.value(adapt | bench, "--scale", "X", "of its output (default: 1/rank; 1 for the shared form)",
          [&](Text t) { f.scale = number(t, std::numeric_limits<double>::lowest(), "a number"); });

  p.group("Running");
  p.value(bench, "--mode", "NAME", "train or infer (default train)", [&](Text t) {
    f.mode = choice(t, {"train", "infer"});
  });
  p.value(bench, "--op", "NAME", "time this op instead of a model; all: every one",
          [&](Text t) { f.op = some_text(t, "an op's name"); });
  p.toggle(bench, "--plan", "say what a training step will take under each policy, and do not run it", f.plan);
  p.toggle(bench, "--fit", "find the largest batch whose training step keeps --memory-budget", f.fit);
  p.toggle(bench, "--profile", "also a table of the kernels of a step, and profile.svg here", f.profile);
  p.value(all | demo, "--threads", "N", "CPU threads (default: all)", [&](Text t) { f.threads = whole(t, 1, 1024); });
  p.value(train | adapt | evaluate | predict | bench, "--device", "NAME", "cpu, cuda or cuda:N (default cpu)",
          [&](Text t) { f.device = device(t); });
  p.value(train | adapt | evaluate | bench, "--dtype", "NAME", "f32, or on CUDA tf32: products of 10-bit fractions",
          [&](Text t) {
            f.dtype = choice(t, {"f32", "tf32"}, {"bf16", "f16"});
          });
  p.value(train | adapt | bench, "--memory-budget", "SIZE",
          "most activation bytes alive at once: 256MiB, 2GB, 1000000; implies\n--checkpoint auto",
          [&](Text t) { f.memory_budget = byte_size(t); });
  p.value(train | adapt | bench, "--checkpoint", "NAME",
          "what backward finds saved: none (everything), default, blocks, or\nauto: as planned for the budget",
          [&](Text t) {
            f.checkpoint = choice(t, {"none", "default", "blocks", "auto"});
          });

  p.group("Output");
  p.value(train | adapt, "--out", "DIR", "where the run writes weights, state/, log.jsonl and drawings",
          [&](Text t) { f.out = some_text(t, "a folder"); });
  p.value(demo, "--out", "DIR", "where it writes (default build/demo)",
          [&](Text t) { f.out = some_text(t, "a folder"); });
  p.value(train | adapt, "--save-every", "SECONDS", "between saved states (default 60)",
          [&](Text t) { f.save_every = not_negative(t); });
  p.value(train | adapt, "--resume", "DIR", "go on exactly where the run with this --out stood",
          [&](Text t) { f.resume = some_text(t, "a folder"); });
  p.toggle(train | adapt, "--force", "overwrite a finished run in --out", f.force);
  p.value(evaluate, "--save-folded", "FILE", "the model as it was evaluated, folded for inference",
          [&](Text t) { f.save_folded = some_text(t, "a file"); });
  p.value(train | adapt | bench, "--graph", "FILE", "draws one training step: .dot, or .svg by Graphviz",
          [&](Text t) { f.graph = some_text(t, "a file"); });
  p.value(all, "--json", "FILE", "one JSON object a line; - for standard output",
          [&](Text t) { f.json = some_text(t, "a file or -"); });
  p.help();
}

void require(bool there, const char* flag, const char* expected) {
  if (!there) throw UsageError(concat(flag, ": missing, expected ", expected));
}

// What no flag can know of itself: those that must be there, and those that make no sense together.
void check_together(App app, const Parser& p, const Flags& f) {
  const Apps bit = static_cast<Apps>(app);
  if (bit & demo) return;
  if (bit & inspect) return require(!f.files.empty(), "FILE", "at least one .safetensors file or index.json");
  if (!f.op.empty())
    for (const char* flag : {"--adapt", "--model", "--image-size"})
      if (p.given(flag)) throw UsageError(concat("--op: no effect with ", flag, ", expected one of them"));
  const bool trains = f.op.empty() && f.mode == "train";
  if (f.memory_budget && p.given("--checkpoint") && f.checkpoint != "auto")
    throw UsageError(
        concat("--memory-budget: got --checkpoint ", f.checkpoint, " as well, expected auto or none given"));
  if ((f.memory_budget || f.checkpoint == "auto") && !trains)
    throw UsageError(concat(f.memory_budget ? "--memory-budget" : "--checkpoint auto",
                            ": no effect here, expected a model's training step"));
  if (f.profile)
    for (const char* flag : {"--op", "--plan", "--fit"})
      if (p.given(flag)) throw UsageError(concat("--profile: no effect with ", flag, ", expected one of them"));
  if (f.fit) {
    require(f.memory_budget.has_value(), "--memory-budget", "a size for --fit");
    for (const char* flag : {"--batch", "--plan", "--graph"})
      if (p.given(flag)) throw UsageError(concat("--fit: no effect with ", flag, ", expected one of them"));
  }
  if (f.plan) {
    const auto refuse_with = [](const char* what) {
      throw UsageError(concat("--plan: no effect with ", what, ", expected a model's training step on the CPU"));
    };
    if (!f.op.empty()) refuse_with("--op");
    if (!f.graph.empty()) refuse_with("--graph");
    if (f.mode != "train") refuse_with("--mode infer");
    if (f.device.kind != DeviceKind::cpu) refuse_with("--device cuda");
    if (p.given("--checkpoint")) refuse_with("--checkpoint: it shows every policy");
  }
  require(!f.model.empty() || !f.op.empty(), "--model", "a model's name (--list-models prints them)");
  if (bit & (adapt | evaluate | predict)) require(!f.weights.empty(), "--weights", "a .safetensors file");
  if (bit & predict) require(!f.files.empty(), "IMAGE", "at least one PNG, JPEG or BMP file");
  if (bit & (train | adapt | evaluate)) require(!f.data.empty(), "--data", "a data set, such as fashion-mnist");
  if (f.weights.empty() && !f.allow_missing.empty())
    throw UsageError("--allow-missing: no effect here, expected with --weights");
  if (f.dtype == "tf32" && f.device.kind == DeviceKind::cpu)
    throw UsageError("--dtype: got tf32 on the CPU, expected f32, or --device cuda");
  if (f.optimizer == "adamw" && f.momentum)
    throw UsageError("--momentum: no effect with --optimizer adamw, expected with sgd");
  if (!f.graph.empty()) {
    if (!f.op.empty() || f.mode != "train" || f.epochs == 0 || (bit == adapt && f.method == "none"))
      throw UsageError("--graph: no effect here, expected a model's training step to draw");
    check_graph_file(f.graph);
  }
  for (const char* flag : {"--match", "--rank", "--kernel", "--dilation", "--scale"}) {
    if (!p.given(flag)) continue;
    if (bit == bench && !f.adapt) throw UsageError(concat(flag, ": no effect here, expected with --adapt"));
    if (bit == adapt && f.method != "quadratic" && f.method != "lora")
      throw UsageError(concat(flag, ": no effect with --method ", f.method, ", expected with quadratic or lora"));
  }
}

}  // namespace

std::string name_of(App app) {
  for (const auto& row : app_table)
    if (row.app == static_cast<Apps>(app)) return row.name;
  return "?";
}

Flags parse_flags(App app, int argc, const char* const* argv) {
  Flags flags;
  Parser parser(app);
  declare(parser, flags);
  parser.parse(argc, argv);
  parser.store();
  if (!flags.list_models) check_together(app, parser, flags);
  if (flags.memory_budget) flags.checkpoint = "auto";
  return flags;
}

}  // namespace parabola
