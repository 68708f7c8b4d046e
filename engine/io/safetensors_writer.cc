#include <algorithm>
#include <set>
#include <sstream>

#include "engine/core/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/safetensors_header.h"
#include "engine/io/strict_json.h"

namespace parabola {
namespace {

FileDType file_dtype_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return FileDType::f32;
    case DType::f64: return FileDType::f64;
    case DType::bf16: return FileDType::bf16;
    case DType::f16: return FileDType::f16;
    case DType::i32: return FileDType::i32;
    case DType::u8: return FileDType::u8;
  }
  fail<DTypeError>("safetensors", "dtype cannot be written");
}

uint64_t bytes_of(const TensorData& tensor) {
  return static_cast<uint64_t>(tensor.shape.elements()) * size_of(tensor.dtype);
}

// What the reader would refuse is not written.
void check_names(const std::string& where, const std::vector<const TensorData*>& sorted,
                 const std::map<std::string, std::string>& metadata) {
  std::set<std::string_view> names;
  uint64_t text_bytes = 0;
  const auto check_length = [&](const std::string& name) {
    text_bytes += name.size();
    if (name.size() > max_json_key_bytes)
      fail<UsageError>(where, "name '", printable(name, 40), "' has ", name.size(), " bytes, expected at most ",
                       max_json_key_bytes);
  };
  for (const TensorData* tensor : sorted) {
    check_length(tensor->name);
    if (tensor->name == metadata_key) fail<UsageError>(where, "a tensor cannot be named ", metadata_key);
    if (!names.insert(tensor->name).second)
      fail<UsageError>(where, "two tensors are named '", printable(tensor->name), "', expected different names");
  }
  for (const auto& [key, value] : metadata) {
    check_length(key);
    text_bytes += value.size();
  }
  if (sorted.size() > max_tensors)
    fail<UsageError>(where, "got ", sorted.size(), " tensors to write, expected at most ", max_tensors);
  if (text_bytes > max_header_bytes)  // before the header is built, which takes several times as much memory
    fail<UsageError>(where, "header is too large: got over ", text_bytes, " bytes, expected at most ",
                     max_header_bytes);
}

std::string header_json(const std::vector<const TensorData*>& sorted,
                        const std::map<std::string, std::string>& metadata) {
  std::ostringstream out;
  const char* separator = "";
  out << '{';
  if (!metadata.empty()) {
    out << quote_json(metadata_key) << ":{";
    for (const auto& [key, value] : metadata) {
      out << separator << quote_json(key) << ':' << quote_json(value);
      separator = ",";
    }
    out << '}';
  }
  uint64_t begin = 0;
  for (const TensorData* tensor : sorted) {
    out << separator << quote_json(tensor->name) << ":{\"dtype\":\"" << name_of(file_dtype_of(tensor->dtype))
        << "\",\"shape\":[";
    for (int axis = 0; axis < tensor->shape.rank(); ++axis) out << (axis ? "," : "") << tensor->shape[axis];
    const uint64_t end = begin + bytes_of(*tensor);
    out << "],\"data_offsets\":[" << begin << ',' << end << "]}";
    begin = end;
    separator = ",";
  }
  out << '}';
  std::string json = std::move(out).str();
  json.resize((json.size() + 7) / 8 * 8, ' ');  // so that the data behind it is aligned
  return json;
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const TensorData> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string where = printable_path(path);
  std::vector<const TensorData*> sorted;
  for (const TensorData& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const TensorData* a, const TensorData* b) {
    const size_t left = size_of(a->dtype), right = size_of(b->dtype);
    return left != right ? left > right : a->name < b->name;
  });
  check_names(where, sorted, metadata);
  const std::string json = header_json(sorted, metadata);
  if (json.size() > max_header_bytes)
    fail<UsageError>(where, "header is too large: got ", json.size(), " bytes, expected at most ", max_header_bytes);

  AtomicFile file(path);
  char length[header_length_bytes];
  for (size_t i = 0; i < header_length_bytes; ++i) length[i] = static_cast<char>(json.size() >> 8 * i & 0xff);
  file.write(length, sizeof length);
  file.write(json);
  for (const TensorData* tensor : sorted) file.write(tensor->data, bytes_of(*tensor));
  file.commit();
}

}  // namespace parabola
