// The part of a safetensors file that must not be believed: its header. Checked from memory, apart from any file, so
// that tests and the fuzzer reach every rule.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/safetensors.h"

namespace parabola {

constexpr uint64_t header_length_bytes = 8;         // a u64 in front of the JSON
constexpr uint64_t max_header_bytes = 100'000'000;  // the limit of the format's own reader
// Over all shards. For scale: 61 layers of 384 experts, three matrices each and a scale to each matrix, are 140,544.
constexpr size_t max_tensors = 200'000;
constexpr std::string_view metadata_key = "__metadata__";

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // by (begin, end), so in the order of the data
  std::map<std::string, std::string> metadata;
};

// The length N of the JSON header, from the file's first bytes (as many of the first 64 as there are). FormatError
// where N cannot be true, saying so where the file is plainly something else (a web page, a pickle).
uint64_t read_header_length(std::string_view file, std::string_view start, uint64_t file_size);

// Checks the JSON header of a file with `data_bytes` bytes of data behind it. On return the entries lie within the
// data, cover each of its bytes once, and their shapes fit their byte ranges. FormatError, naming `file`, else.
SafetensorsHeader parse_header(std::string_view file, std::string_view json, uint64_t data_bytes);

// The type that files spell `name`; nothing where the format has none such.
std::optional<FileDType> file_dtype(std::string_view name);

}  // namespace parabola
