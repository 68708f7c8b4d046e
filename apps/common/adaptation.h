// What `adapt` and `demo` do to a loaded model: choose what trains, attach adapters, re-estimate statistics, save.
#pragma once
#include "apps/common/setup.h"
#include "layers/adapter.h"

namespace parabola {

// Freezes all but what the method trains. quadratic, lora: new adapters (drawn from seed) and the head; head: the head;
// full: everything, BatchNorm in training mode; none: nothing. Norms stay frozen except with full.
void prepare_adaptation(LoadedModel& loaded, const std::string& method, const AdapterOptions& options, uint64_t seed);

std::string describe_method(const std::string& method, const LoadedModel& loaded);  // "quadratic, 19 adapters, rank 2"

// Sets every BatchNorm's running statistics to the mean over one pass of the (augmented) training images.
void reestimate_statistics(Module& model, DatasetPtr train, const Augmentation& augmentation,
                           const Preprocessing& preprocessing, int64_t batch, uint64_t seed, Progress* progress);

// model.safetensors with everything, adapters.safetensors with what the adaptation changed.
void save_adaptation(const LoadedModel& loaded, const std::string& method, bool statistics_moved,
                     const std::vector<std::string>& class_names, const std::string& folder);

}  // namespace parabola
