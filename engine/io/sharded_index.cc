#include "engine/io/sharded_index.h"

#include <filesystem>
#include <set>

#include "engine/core/error.h"
#include "engine/io/input_file.h"
#include "engine/io/safetensors_header.h"
#include "engine/io/strict_json.h"

namespace parabola {
namespace {

namespace fs = std::filesystem;

bool is_bare_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

}  // namespace

ShardedIndex parse_index(std::string_view file, std::string_view json) {
  const std::string where = printable_path(file);
  ShardedIndex index;
  index.bytes = json.size();
  std::set<std::string, std::less<>> shards;
  bool has_map = false;
  walk_json(file, json, [&](JsonPath path, const JsonValue& value) {
    if (path.empty() && value.kind != JsonKind::object)
      fail<FormatError>(where, "index is ", value.describe(), ", expected an object with a weight_map");
    if (path.size() == 2 && path[0] == "metadata" && path[1] == "total_size") index.total_size = value.text;
    if (path.empty() || path[0] != "weight_map") return;
    if (path.size() == 1) {
      has_map = true;
      if (value.kind != JsonKind::object)
        fail<FormatError>(where, "weight_map is ", value.describe(), ", expected an object of file names");
      return;
    }
    if (value.kind != JsonKind::string)
      fail<FormatError>(where, "weight_map '", printable(path[1]), "' is ", value.describe(), ", expected a file name");
    if (!is_bare_name(value.text))
      fail<FormatError>(where, "shard name '", printable(value.text), "' of tensor '", printable(path[1]),
                        "' is a path, expected the bare name of a file beside the index");
    if (index.shard_of.size() == max_tensors)
      fail<FormatError>(where, "too many tensors in the index, expected at most ", max_tensors);
    index.shard_of.emplace(path[1], value.text);
    shards.emplace(value.text);
    if (shards.size() > max_shards) fail<FormatError>(where, "too many shards, expected at most ", max_shards);
  });
  if (!has_map) fail<FormatError>(where, "weight_map is missing, expected an index of shards");
  return index;
}

ShardedIndex load_index(const std::string& path) {
  const InputFile file(path);
  if (file.size() > max_index_bytes)
    fail<FormatError>(printable_path(path), "index has ", file.size(), " bytes, expected at most ", max_index_bytes);
  std::string json(file.size(), '\0');
  file.read(0, json.data(), json.size());
  return parse_index(path, json);
}

std::string shard_path(const std::string& index_path, const std::string& name) {
  std::error_code error;
  const fs::path folder = fs::canonical(fs::absolute(index_path).parent_path(), error);
  const fs::path shard = error ? fs::path() : fs::canonical(folder / name, error);
  if (error)
    fail<FormatError>(printable_path(index_path), "shard '", printable(name), "' cannot be found: ", error.message());
  if (shard.parent_path() != folder)
    fail<FormatError>(printable_path(index_path), "shard '", printable(name),
                      "' is a symbolic link out of the index's folder, expected a file in it (copy it there)");
  return shard.string();
}

}  // namespace parabola
