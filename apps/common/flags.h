// The command line of every app, as INTERFACE.md lists it: one table in flags.cc, one struct here.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/augment.h"
#include "engine/core/dtype.h"

namespace parabola {

// Bits, so that the table can say of each flag which apps offer it.
enum class App : unsigned { train = 1, adapt = 2, evaluate = 4, bench = 8, inspect = 16, demo = 32, predict = 64 };
std::string name_of(App app);

// What was asked for. A flag's own default stands here; std::optional is a value that the model's recipe (or the data
// set, the host layer) gives unless the user did. Words of a fixed list (optimizer, method, ...) were checked against
// that list.
struct Flags {
  // model and weights
  std::string model;
  bool list_models = false;  // print the registry's names and end; nothing else was checked then
  std::string weights;
  std::vector<std::string> allow_missing;  // globs: tensors that --weights may lack
  std::vector<std::string> files;          // inspect: FILE...; predict: IMAGE...
  std::string classes;                     // predict: file of class names; empty: those of the weights
  int64_t top = 5;                         // predict: classes shown of each image, at least 1

  // data
  std::string data;                   // demo: the folder of Fashion-MNIST; empty: Debian's
  std::string split = "test";         // test, train
  std::optional<int64_t> limit;       // at least 1
  bool skip_bad = false;              // leave images out that cannot be read
  std::optional<int64_t> images;      // demo: training images of the base, at least 1
  std::optional<int64_t> batch;       // at least 1
  std::optional<int64_t> image_size;  // bench: pixels, at least 1
  int64_t accumulate = 1;             // batches a step, at least 1
  std::optional<Augmentation> augment;

  // training
  std::optional<int64_t> epochs;  // at least 0; demo: at least 1
  uint64_t seed = 1;
  std::optional<std::string> optimizer;  // sgd, adamw
  std::optional<double> lr;              // at least 0, as the next two
  std::optional<double> momentum;        // below 1
  bool nesterov = false;
  std::optional<double> weight_decay;
  std::optional<std::string> schedule;  // constant, step, cosine
  std::optional<double> warmup;         // epochs, at least 0
  std::optional<double> clip;           // largest global norm of the gradient; 0: no clipping
  double layer_decay = 1;               // above 0, at most 1
  double ema = 0;                       // at least 0, below 1, as the next
  double label_smoothing = 0;

  // adapters
  std::string method = "quadratic";  // quadratic, lora, head, full, none
  std::string bn = "frozen";         // frozen, adapt
  bool adapt = false;                // bench: time the model with adapters
  std::optional<std::string> match;  // glob over layer names
  std::optional<int64_t> rank;       // at least 1, as the next two
  std::optional<int64_t> kernel;
  std::optional<int64_t> dilation;
  std::optional<double> scale;

  // running
  std::string mode = "train";           // bench: train, infer
  bool plan = false;                    // bench: what a training step will take under each policy
  bool profile = false;                 // bench: time of each kernel of a step
  bool fit = false;                     // bench: the largest batch under the budget
  std::string op;                       // bench: time this op (or all) instead of a model
  std::optional<int64_t> threads;       // 1 to 1024; default: all cores
  Device device;                        // one that is there
  std::string dtype = "f32";            // f32, tf32 (on CUDA)
  std::string checkpoint = "default";   // none, default, blocks, auto
  std::optional<size_t> memory_budget;  // bytes; checkpoint is auto then

  // output
  std::string out;          // folder of the run; empty: nothing is kept
  double save_every = 60;   // seconds between saved states; 0: after every step
  std::string resume;       // folder of the run to go on with
  bool force = false;       // a finished run in `out` may be overwritten
  std::string save_folded;  // evaluate: file for the folded model; empty: none
  std::string graph;        // file for a drawing of one training step, .dot or .svg; empty: none
  std::string json;         // file for records, "-" for standard output, empty for none
};

// Thrown by parse_flags for --help: the text to print; no error.
struct HelpRequest {
  std::string text;
};

// Reads an app's command line. UsageError, one line "--flag: what is wrong, what was expected", for: unknown flags
// (with a guess at what was meant) and flags of other apps, values out of range, missing or given twice, required flags
// that are missing, flags that contradict each other, and what is not built yet. DeviceError for a device that is not
// there.
Flags parse_flags(App app, int argc, const char* const* argv);

}  // namespace parabola
