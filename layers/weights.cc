#include "layers/weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "engine/core/error.h"
#include "engine/io/strict_json.h"

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

namespace {

constexpr const char* record_name = "metadata 'adapters'";

struct Field {
  JsonKind kind;
  std::string text;
};
using Fields = std::map<std::string, Field>;  // of one object, by key

std::string take(const Fields& fields, const char* key, std::initializer_list<JsonKind> kinds,
                 std::string_view expected) {
  const auto found = fields.find(key);
  if (found == fields.end()) fail<FormatError>(record_name, key, " is missing, expected ", expected);
  const auto& [kind, text] = found->second;
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end())
    fail<FormatError>(record_name, key, ": got ", printable(text), ", expected ", expected);
  return text;
}

template <class Number>
Number number_in(const std::string& text, const char* key) {
  Number number{};
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc{})
    fail<FormatError>(record_name, key, ": got ", printable(text), ", expected a number in range");
  return number;
}

AdapterSpec spec_of(const Fields& fields) {
  // Sizes come from outside: none may overflow or allocate without bound.
  const auto size = [&](const char* key) {
    const std::string expected = concat("1 to ", largest_adapter_size);
    const auto value = number_in<uint64_t>(take(fields, key, {JsonKind::natural}, expected), key);
    if (value < 1 || value > largest_adapter_size)
      fail<FormatError>(record_name, key, ": got ", value, ", expected ", expected);
    return static_cast<int>(value);
  };
  AdapterSpec spec{
      .layer = take(fields, "layer", {JsonKind::string}, "a name"),
      .rank = size("rank"),
      .kernel = size("kernel"),
      .dilation = size("dilation"),
      .scale = number_in<double>(take(fields, "scale", {JsonKind::natural, JsonKind::number}, "a number"), "scale")};
  const std::string form = take(fields, "form", {JsonKind::string}, "a name");
  for (AdapterForm candidate : {AdapterForm::neuron_wise, AdapterForm::shared, AdapterForm::lora}) {
    if (form != name_of(candidate)) continue;
    spec.form = candidate;
    return spec;
  }
  fail<FormatError>(record_name, "form: got ", printable(form), ", expected neuron-wise, shared or lora");
}

}  // namespace

std::string AdapterRecord::str() const {
  std::string layers;
  for (const AdapterSpec& spec : specs) {
    std::array<char, 32> scale;
    const char* end = std::to_chars(scale.data(), scale.data() + scale.size(), spec.scale).ptr;
    layers += concat(layers.empty() ? "" : ",", "{\"layer\":", quote_json(spec.layer), ",\"form\":\"",
                     name_of(spec.form), "\",\"rank\":", spec.rank, ",\"kernel\":", spec.kernel,
                     ",\"dilation\":", spec.dilation, ",\"scale\":", std::string_view(scale.data(), end), "}");
  }
  return concat("{\"method\":", quote_json(method), ",\"match\":", quote_json(match), ",\"layers\":[", layers, "]}");
}

AdapterRecord AdapterRecord::parse(const std::string& json) {
  Fields record;
  std::vector<Fields> layers;
  walk_json(record_name, json, [&](JsonPath path, const JsonValue& value) {
    const bool of_layers = !path.empty() && path[0] == "layers";
    const JsonKind holders[] = {JsonKind::object, JsonKind::array,
                                JsonKind::object};  // the record, its layers, each one
    if (path.empty() || (of_layers && path.size() < 3)) {
      if (value.kind != holders[path.size()])
        fail<FormatError>(record_name, "got ", value.describe(), ", expected a description of adapters");
      if (path.size() == 2) layers.emplace_back();
    } else if (of_layers && path.size() == 3) {
      layers.back()[path[2]] = {value.kind, std::string(value.text)};
    }
    if (path.size() == 1) record[path[0]] = {value.kind, std::string(value.text)};
  });
  AdapterRecord result{
      take(record, "method", {JsonKind::string}, "a name"), take(record, "match", {JsonKind::string}, "a pattern"), {}};
  take(record, "layers", {JsonKind::array}, "a list");
  for (const Fields& layer : layers) result.specs.push_back(spec_of(layer));
  return result;
}

}  // namespace parabola
