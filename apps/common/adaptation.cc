#include "apps/common/adaptation.h"

namespace parabola {
namespace {

std::vector<BatchNorm*> batch_norms(Module& model) {
  std::vector<BatchNorm*> norms;
  for (auto& [name, module] : model.modules())
    if (auto* norm = dynamic_cast<BatchNorm*>(module)) norms.push_back(norm);
  return norms;
}

}  // namespace

void prepare_adaptation(LoadedModel& loaded, const std::string& method, const AdapterOptions& options, uint64_t seed) {
  Module& model = *loaded.model;
  if (method == "full") return;
  set_trainable(model, "*", false);
  for (BatchNorm* norm : batch_norms(model)) norm->freeze(true);
  if (method == "none") return;
  const std::string head = loaded.info->head + ".*";
  set_trainable(model, head, true);
  if (method == "head") return;
  AdapterOptions chosen = options;
  chosen.method = method;
  const std::vector<AdapterSpec> specs = plan_adapters(model, chosen, parameter_count(model, true));
  attach_adapters(model, specs, seed);
  loaded.adapters = AdapterRecord{method, options.match.value_or("default"), specs};
}

std::string describe_method(const std::string& method, const LoadedModel& loaded) {
  if (!loaded.adapters) return method;
  const std::vector<AdapterSpec>& specs = loaded.adapters->specs;
  int low = specs[0].rank, high = specs[0].rank;
  for (const AdapterSpec& spec : specs) low = std::min(low, spec.rank), high = std::max(high, spec.rank);
  return concat(method, ", ", specs.size(), " adapters (", name_of(specs[0].form), "), rank ", low,
                high > low ? concat(" to ", high) : std::string());
}

void reestimate_statistics(Module& model, DatasetPtr train, const Augmentation& augmentation,
                           const Preprocessing& preprocessing, int64_t batch_size, uint64_t seed, Progress* progress) {
  const std::vector<BatchNorm*> norms = batch_norms(model);
  Loader loader(std::move(train), {.batch = batch_size,
                                   .seed = seed,
                                   .augmentation = augmentation,
                                   .preprocessing = preprocessing,
                                   .device = device_of(model)});
  if (progress) progress->begin("statistics", loader.batches());
  const bool was_training = model.training();
  model.set_training(true);
  for (BatchNorm* norm : norms) norm->freeze(false);
  int64_t seen = 0;
  for (Batch& batch : loader) {
    // A momentum of 1/k makes the running value the mean over the k batches so far.
    ++seen;
    for (BatchNorm* norm : norms) norm->set_momentum(1.0 / static_cast<double>(seen));
    model(batch.images);
    if (progress) progress->step(batch.labels.elements());
  }
  for (BatchNorm* norm : norms) norm->freeze(true), norm->set_momentum(0.1);
  model.set_training(was_training);
  if (progress) progress->end("statistics re-estimated");
}

void save_adaptation(const LoadedModel& loaded, const std::string& method, bool statistics_moved,
                     const std::vector<std::string>& class_names, const std::string& folder) {
  const std::map<std::string, std::string> metadata = metadata_for(loaded, class_names);
  const auto changed = [&](const Module::Entry& entry) {
    return entry.buffer ? statistics_moved || method == "full" : entry.tensor->requires_gradient();
  };
  save_weights(*loaded.model, folder + "/adapters.safetensors", metadata, changed);
  save_weights(*loaded.model, folder + "/model.safetensors", metadata);
}

}  // namespace parabola
