// model.safetensors.index.json: which shard holds which tensor of a model that is split over several files.
//     {"metadata": {"total_size": 1084392}, "weight_map": {"bn1.bias": "model-00001-of-00002.safetensors", ...}}
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace parabola {

constexpr uint64_t max_index_bytes = 100'000'000;  // as for a header, whose names it repeats
constexpr size_t max_shards = 1000;                // each stays open, and a process has 1024 files by default

struct ShardedIndex {
  uint64_t bytes = 0;                           // size of the index itself
  std::map<std::string, std::string> shard_of;  // tensor name -> file name
  std::string total_size;                       // as written; empty where the index has none
};

// Checks an index from memory. FormatError, naming `file`, where it is not of the form above or a shard's name is more
// than a bare file name (a path could lead anywhere). Fields that it does not know are ignored.
ShardedIndex parse_index(std::string_view file, std::string_view json);

// The same from a file. FormatError also where it is larger than max_index_bytes; UsageError where it cannot be opened.
ShardedIndex load_index(const std::string& path);

// The path of shard `name` beside the index at `index_path`, free of symbolic links. FormatError where there is none,
// or where a link leads out of the index's folder.
std::string shard_path(const std::string& index_path, const std::string& name);

}  // namespace parabola
