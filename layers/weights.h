// Models to and from safetensors files: strict loading with a full report, adapters described in the metadata.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "layers/adapter.h"

namespace parabola {

// Copies every parameter and buffer of the model from the file (converted from any floating dtype and from PyTorch's
// layouts). FormatError, in one line that counts and names them, where tensors are missing (but for those that match a
// glob of allow_missing, which keep their initial values), unexpected, or of another shape. PyTorch's
// num_batches_tracked counters are passed over. Nothing is changed unless everything fits.
struct LoadOptions {
  std::vector<std::string> allow_missing = {};
};
void load_weights(Module& model, const Safetensors& file, const LoadOptions& options = {});
void load_weights(Module& model, const std::string& path, const LoadOptions& options = {});

// Writes the tensors whose full name `keep` accepts (all, where it is empty), in PyTorch's layouts, atomically.
void save_weights(const Module& model, const std::string& path, const std::map<std::string, std::string>& metadata,
                  const std::function<bool(const Module::Entry&)>& keep = {});

// The metadata key "adapters": {"method": ..., "match": ..., "layers": [{"layer", "form", "rank", "kernel", "dilation",
// "scale"}]}.
struct AdapterRecord {
  std::string method, match;
  std::vector<AdapterSpec> specs;
  std::string str() const;                              // one line of JSON
  static AdapterRecord parse(const std::string& json);  // FormatError on anything else
};

}  // namespace parabola
