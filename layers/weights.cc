#include "layers/weights.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/error.h"

namespace parabola {
namespace {

// "3 missing (conv1.weight, bn1.bias, bn1.weight)"; long lists are cut, since the message is one line.
std::string listed(const std::vector<std::string>& names, const char* what) {
  if (names.empty()) return "";
  constexpr size_t shown = 6;
  std::string text = concat(names.size(), " ", what, " (");
  for (size_t i = 0; i < std::min(names.size(), shown); ++i) text += concat(i ? ", " : "", names[i]);
  return text + (names.size() > shown ? ", ...)" : ")");
}

}  // namespace

void load_weights(Module& model, const Safetensors& file, const LoadOptions& options) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string, std::less<>> known;
  std::vector<std::pair<Module::Entry, const TensorEntry*>> found;
  for (const Module::Entry& entry : model.tensors()) {
    known.insert(entry.name);
    const TensorEntry* stored = file.find(entry.name);
    const Shape expected = file_shape(entry.tensor->shape(), entry.layout);
    if (!stored) {
      const bool allowed =
          std::ranges::any_of(options.allow_missing, [&](const auto& p) { return matches(p, entry.name); });
      if (!allowed) missing.push_back(entry.name);
    } else if (stored->shape != expected) {
      misshapen.push_back(concat(entry.name, ": got ", stored->shape, ", expected ", expected));
    } else {
      found.emplace_back(entry, stored);
    }
  }
  for (const TensorEntry& stored : file.entries())
    if (!known.contains(stored.name) && !stored.name.ends_with("num_batches_tracked"))
      unexpected.push_back(printable(stored.name, 60));
  if (!missing.empty() || !unexpected.empty() || !misshapen.empty()) {
    std::string report;
    for (const std::string& part :
         {listed(missing, "missing"), listed(unexpected, "unexpected"), listed(misshapen, "of another shape")})
      if (!part.empty()) report += (report.empty() ? "" : "; ") + part;
    throw FormatError(concat(printable(file.path()), ": tensors do not fit the model: ", report,
                             ", expected exactly the model's ", known.size(), " tensors"));
  }
  // Everything is read before anything is changed: a file that fails half-way leaves the model as it was.
  std::vector<Tensor> values;
  for (const auto& [entry, stored] : found) {
    const Tensor raw = Tensor::empty(stored->shape, entry.tensor->dtype(), Category::parameters);
    file.read(*stored, raw.dtype(), raw.raw(), raw.bytes());
    values.push_back(Tensor::empty(entry.tensor->shape(), raw.dtype(), Category::parameters));
    from_file(entry.tensor->shape(), entry.layout, size_of(raw.dtype()), raw.raw(), values.back().raw());
  }
  for (size_t i = 0; i < found.size(); ++i) found[i].first.tensor->copy_from(values[i]);
}

void load_weights(Module& model, const std::string& path, const LoadOptions& options) {
  load_weights(model, Safetensors(path), options);
}

void save_weights(const Module& model, const std::string& path, const std::map<std::string, std::string>& metadata,
                  const std::function<bool(const Module::Entry&)>& keep) {
  std::vector<Tensor> stored;
  std::vector<TensorData> data;
  for (const Module::Entry& entry : model.tensors()) {
    if (keep && !keep(entry)) continue;
    const Tensor& tensor = *entry.tensor;
    stored.push_back(Tensor::empty(file_shape(tensor.shape(), entry.layout), tensor.dtype(), Category::parameters));
    to_file(tensor.shape(), entry.layout, size_of(tensor.dtype()), tensor.on_cpu().raw(), stored.back().raw());
    data.push_back({entry.name, tensor.dtype(), stored.back().shape(), stored.back().raw()});
  }
  write_safetensors(path, data, metadata);
}

std::string AdapterRecord::str() const {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const AdapterSpec& spec : specs)
    layers.push_back({{"layer", spec.layer},
                      {"form", name_of(spec.form)},
                      {"rank", spec.rank},
                      {"kernel", spec.kernel},
                      {"dilation", spec.dilation},
                      {"scale", spec.scale}});
  return nlohmann::ordered_json{{"method", method}, {"match", match}, {"layers", layers}}.dump();
}

AdapterRecord AdapterRecord::parse(const std::string& json) {
  try {
    const nlohmann::json root = nlohmann::json::parse(json);
    AdapterRecord record{root.at("method"), root.at("match"), {}};
    for (const nlohmann::json& layer : root.at("layers")) {
      // Sizes come from outside: none may overflow or allocate without bound.
      const auto size = [&](const char* key) {
        const nlohmann::json& value = layer.at(key);
        if (!value.is_number_unsigned() || value < 1 || value > largest_adapter_size)
          throw FormatError(concat(key, ": got ", printable(value.dump()), ", expected 1 to ", largest_adapter_size));
        return value.get<int>();
      };
      AdapterSpec spec{.layer = layer.at("layer"),
                       .rank = size("rank"),
                       .kernel = size("kernel"),
                       .dilation = size("dilation"),
                       .scale = layer.at("scale")};
      const std::string form = layer.at("form");
      bool known = false;
      for (AdapterForm candidate : {AdapterForm::neuron_wise, AdapterForm::shared, AdapterForm::lora})
        if (form == name_of(candidate)) spec.form = candidate, known = true;
      if (!known) throw FormatError(concat("form: got ", printable(form), ", expected neuron-wise, shared or lora"));
      record.specs.push_back(spec);
    }
    return record;
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(concat("metadata 'adapters': not a description of adapters (", printable(error.what()), ")"));
  } catch (const FormatError& error) {
    throw FormatError(concat("metadata 'adapters': ", error.what()));
  }
}

}  // namespace parabola
