// Building blocks of the file tests: safetensors files put together byte by byte, so that each can be wrong in one
// place.
#pragma once
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/error.h"
#include "engine/io/safetensors_header.h"

namespace parabola {

// The eight bytes in front of a header: `length`, little-endian.
inline std::string length_prefix(uint64_t length) {
  std::string prefix;
  for (int i = 0; i < 8; ++i) prefix += static_cast<char>(length >> 8 * i & 0xff);
  return prefix;
}

// A file with this header and this data.
inline std::string safetensors_image(std::string_view json, std::string_view data = "") {
  return length_prefix(json.size()).append(json).append(data);
}

// One entry of a header: "name":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}
inline std::string header_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                                std::string_view offsets) {
  return concat('"', name, R"(":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)", offsets, '}');
}

// A header of these entries.
inline std::string header_of(const std::vector<std::string>& entries) {
  std::string json = "{";
  for (const std::string& entry : entries) {
    if (json.size() > 1) json += ',';
    json += entry;
  }
  return json += '}';
}

// What opening a file with these bytes checks, without a file.
inline SafetensorsHeader parse_image(std::string_view file, std::string_view image) {
  const uint64_t length = read_header_length(file, image.substr(0, 64), image.size());
  const std::string_view rest = image.substr(header_length_bytes);
  return parse_header(file, rest.substr(0, length), rest.size() - length);
}

inline void write_bytes(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The bytes of a value, as a file holds it.
template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace parabola
