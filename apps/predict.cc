// predict IMAGE...: the likeliest classes of image files.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <numeric>

#include "apps/common/run_app.h"
#include "apps/common/setup.h"
#include "apps/common/text.h"
#include "data/class_names.h"
#include "data/decode.h"
#include "engine/core/error.h"
#include "layers/inference.h"

namespace parabola {
namespace {

// The files of the command line, without labels.
class Files final : public Dataset {
 public:
  explicit Files(std::vector<std::string> paths)
      : Dataset({.name = "images", .size = std::ssize(paths)}), paths_(std::move(paths)) {}

 private:
  int32_t read_label(int64_t) const override { return 0; }
  void read_image(int64_t index, Image& out) const override { decode_image(paths_[static_cast<size_t>(index)], out); }
  std::vector<std::string> paths_;
};

// As the flag says, or the weights' metadata, or by number.
std::vector<std::string> class_names_of(const Flags& flags, const Safetensors& weights, size_t classes) {
  if (!flags.classes.empty()) return read_class_names(flags.classes, classes);
  const auto found = weights.metadata().find("class_names");
  if (found == weights.metadata().end()) return numbered_classes(classes);
  std::vector<std::string> names = parse_class_names(printable_path(flags.weights), found->second);
  if (names.size() != classes)
    throw FormatError(
        concat(printable_path(flags.weights), ": class_names: got ", names.size(), ", expected ", classes));
  return names;
}

// Of one row of logits, in double, so that the sum is 1.
std::vector<double> softmax(std::vector<float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.begin(), logits.end());
  double sum = 0;
  for (double& value : p) sum += value = std::exp(value - most);
  for (double& value : p) value /= sum;
  return p;
}

void run(const Flags& flags) {
  std::ostream& out = human_output(flags.json);
  if (flags.list_models) return list_models(out);
  const Safetensors weights(flags.weights);
  const std::string bias = model_info(flags.model).head + ".bias";
  const TensorEntry* head = weights.find(bias);
  if (!head || head->shape.rank() != 1 || head->shape[0] < 1)
    throw FormatError(concat(printable_path(flags.weights), ": no ", bias, " with a number a class, expected a ",
                             flags.model, "'s weights"));
  const auto classes = static_cast<size_t>(head->shape[0]);
  const std::vector<std::string> names = class_names_of(flags, weights, classes);
  LoadedModel loaded = load_model(flags, static_cast<int>(classes));
  fold(loaded);
  loaded.model->set_device(flags.device);
  Inference infer(*loaded.model);

  JsonLines json(flags.json);
  Loader loader(std::make_shared<Files>(flags.files),
                {.batch = 1, .preprocessing = loaded.preprocessing, .device = flags.device});
  for (const Batch& batch : loader) {
    const std::string& path = flags.files[static_cast<size_t>(batch.number)];
    const std::vector<double> p = softmax(infer(batch.images).on_cpu().to_vector<float>());
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    order.resize(std::min(order.size(), static_cast<size_t>(flags.top)));
    out << printable_path(path) << "\n";
    std::vector<Record> top;
    for (const size_t k : order) {
      out << std::setw(9) << format_percent(p[k]) << "  " << printable(names[k]) << "\n";
      top.push_back(Record().add("class", names[k]).add("index", k).add("probability", p[k]));
    }
    json.write(Record("result").add("file", path).add("top", top));
  }
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::predict, argc, argv, parabola::run); }
