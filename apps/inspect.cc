// inspect FILE...: what a .safetensors file (or an index.json with its shards) holds, or what exactly is wrong with it.
// Only headers are read, never the values. At the first bad file it ends; the good ones before it have been shown by
// then.
#include <iostream>
#include <map>

#include "apps/common/records.h"
#include "apps/common/run_app.h"
#include "apps/common/text.h"
#include "engine/io/safetensors.h"

namespace parabola {
namespace {

constexpr size_t longest_metadata = 100;  // letters; adapters are described in a long line of JSON

std::string type_counts(const Safetensors& file) {
  std::map<std::string, int64_t> counts;
  for (const TensorEntry& tensor : file.entries()) ++counts[std::string(name_of(tensor.dtype))];
  std::string out;
  for (const auto& [dtype, count] : counts) out += (out.empty() ? "" : ", ") + format_count(count) + " " + dtype;
  return out;
}

void show(const Safetensors& file, std::ostream& out) {
  out << printable_path(file.path()) << "\n  " << format_bytes(static_cast<int64_t>(file.bytes()));
  const size_t tensors = file.entries().size();
  out << ", " << format_count(static_cast<int64_t>(tensors)) << (tensors == 1 ? " tensor" : " tensors");
  if (tensors > 0) out << " (" << type_counts(file) << ")";
  out << "\n";
  for (const auto& [key, value] : file.metadata())
    out << "  " << printable(key) << ": " << printable(value, longest_metadata) << "\n";
  for (const std::string& warning : file.warnings()) out << "  warning: " << warning << "\n";
  out << "\n";
  if (tensors == 0) return;

  Table table({"tensor", "dtype", "shape", "elements", "bytes"});
  int64_t elements = 0, bytes = 0;
  for (const TensorEntry& tensor : file.entries()) {
    const auto tensor_bytes = static_cast<int64_t>(tensor.end - tensor.begin);
    elements += tensor.shape.elements();
    bytes += tensor_bytes;
    table.add({printable(tensor.name), std::string(name_of(tensor.dtype)), tensor.shape.str(),
               format_count(tensor.shape.elements()), format_count(tensor_bytes)});
  }
  table.add({"total", "", "", format_count(elements), format_count(bytes)});
  out << table.str() << "\n";
}

Record record_of(const Safetensors& file) {
  std::vector<Record> tensors;
  for (const TensorEntry& tensor : file.entries())
    tensors.push_back(
        Record().add("name", tensor.name).add("dtype", name_of(tensor.dtype)).add("shape", tensor.shape.sizes()));
  Record metadata;
  for (const auto& [key, value] : file.metadata()) metadata.add(key, value);
  return Record("result")
      .add("file", file.path())
      .add("bytes", file.bytes())
      .add("tensors", tensors)
      .add("metadata", metadata)
      .add("warnings", file.warnings());
}

void inspect(const Flags& flags) {
  JsonLines records(flags.json);
  for (const std::string& path : flags.files) {
    const Safetensors file(path);
    show(file, human_output(flags.json));
    records.write(record_of(file));
  }
}

}  // namespace
}  // namespace parabola

int main(int argc, char** argv) { return parabola::run_app(parabola::App::inspect, argc, argv, parabola::inspect); }
