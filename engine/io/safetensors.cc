#include "engine/io/safetensors.h"

#include <algorithm>
#include <optional>
#include <set>

#include "engine/core/error.h"
#include "engine/io/convert.h"
#include "engine/io/safetensors_header.h"
#include "engine/io/sharded_index.h"

namespace parabola {

Safetensors::Safetensors(const std::string& path) : path_(path) {
  if (path.ends_with(".json"))
    open_index();
  else
    entries_ = add_file(path);
  for (size_t i = 0; i < entries_.size(); ++i) by_name_.emplace(entries_[i].name, i);
}

std::vector<TensorEntry> Safetensors::add_file(const std::string& path) {
  auto input = std::make_unique<InputFile>(path);
  const InputFile& file = *input;
  std::string start(std::min<uint64_t>(file.size(), 64), '\0');
  file.read(0, start.data(), start.size());
  const uint64_t length = read_header_length(path, start, file.size()), data_begin = header_length_bytes + length;
  std::string json(length, '\0');
  file.read(header_length_bytes, json.data(), json.size());
  SafetensorsHeader header = parse_header(path, json, file.size() - data_begin);
  for (TensorEntry& entry : header.entries) entry.file = files_.size();
  for (const auto& [key, value] : header.metadata)
    if (metadata_.emplace(key, value).first->second != value)
      warnings_.push_back(concat("metadata '", printable(key), "' differs between shards, the first shard's is kept"));
  files_.push_back({std::move(input), data_begin});
  return std::move(header.entries);
}

void Safetensors::open_index() {
  const std::string where = printable_path(path_);
  const ShardedIndex index = load_index(path_);
  index_bytes_ = index.bytes;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index.shard_of) shards.insert(shard);

  std::map<std::string, std::string> found_in;  // tensor -> shard, whether listed or not
  uint64_t tensor_bytes = 0;
  for (const std::string& shard : shards) {
    std::optional<std::string> unlisted;
    for (TensorEntry& entry : add_file(shard_path(path_, shard))) {
      tensor_bytes += entry.end - entry.begin;
      if (const auto [other, is_new] = found_in.emplace(entry.name, shard); !is_new)
        fail<FormatError>(where, "tensor '", printable(entry.name), "' is in two shards: '", printable(other->second),
                          "' and '", printable(shard), "', expected it in one");
      const auto listed = index.shard_of.find(entry.name);
      if (listed == index.shard_of.end())
        unlisted = entry.name;
      else if (listed->second == shard)
        entries_.push_back(std::move(entry));
    }
    if (unlisted)
      warnings_.push_back(concat("shard '", printable(shard), "' holds tensors that the index does not list, such as '",
                                 printable(*unlisted), "'; they are left out"));
  }
  for (const auto& [tensor, shard] : index.shard_of)
    if (const auto found = found_in.find(tensor); found == found_in.end() || found->second != shard)
      fail<FormatError>(where, "tensor '", printable(tensor), "' is not in its shard '", printable(shard), "'");

  // Some writers count the bytes of the tensors, some those of the files.
  const std::string in_tensors = std::to_string(tensor_bytes), in_files = std::to_string(bytes() - index_bytes_);
  if (!index.total_size.empty() && index.total_size != in_tensors && index.total_size != in_files)
    warnings_.push_back(concat("total_size in the index is ", printable(index.total_size, 40), ", but the shards hold ",
                               in_tensors, " bytes of tensors in ", in_files, " bytes of files"));
}

uint64_t Safetensors::bytes() const {
  uint64_t sum = index_bytes_;
  for (const File& file : files_) sum += file.input->size();
  return sum;
}

const TensorEntry* Safetensors::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

void Safetensors::read(const TensorEntry& tensor, DType target, std::byte* out, size_t bytes, NonFinite values) const {
  PARABOLA_ASSERT(tensor.file < files_.size());
  const File& source = files_[tensor.file];
  const std::string where = printable_path(source.input->path()), name = "tensor '" + printable(tensor.name) + "'";
  const size_t elements = static_cast<size_t>(tensor.shape.elements());
  if (bytes != elements * size_of(target))
    fail<UsageError>(where, name, ": got a buffer of ", bytes, " bytes, expected ", elements * size_of(target));
  if (!is_convertible(tensor.dtype, target))
    fail<FormatError>(where, name, ": ", name_of(tensor.dtype), " is valid but not supported here as ",
                      name_of(target));

  // Pieces of a size that stays in cache, so that converting needs no second copy of the tensor.
  constexpr size_t piece_elements = 32768;
  const size_t file_size = bits_of(tensor.dtype) / 8, target_size = size_of(target);
  std::vector<std::byte> piece(std::min(elements, piece_elements) * file_size);
  for (size_t first = 0; first < elements; first += piece_elements) {
    const size_t count = std::min(piece_elements, elements - first);
    std::byte* const to = out + first * target_size;
    source.input->read(source.data_begin + tensor.begin + first * file_size, piece.data(), count * file_size);
    if (const size_t good = convert(tensor.dtype, piece.data(), target, to, count); good != count)
      fail<FormatError>(where, name, ": element ", first + good, " of type ", name_of(tensor.dtype),
                        " is not an integer that fits i32");
    if (values == NonFinite::allow) continue;
    if (const size_t good = find_non_finite(target, to, count); good != count)
      fail<FormatError>(where, name, ": element ", first + good, " is NaN or infinite, expected finite values");
  }
  source.input->check_unchanged();
}

}  // namespace parabola
