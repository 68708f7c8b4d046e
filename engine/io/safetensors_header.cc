#include "engine/io/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "engine/core/error.h"
#include "engine/io/strict_json.h"

namespace parabola {
namespace {

// A tensor as far as the JSON has told; sizes are not yet known to make sense.
struct Draft {
  std::string name;
  std::optional<FileDType> dtype;
  std::optional<std::vector<uint64_t>> shape, offsets;
};

// Common mistakes, by the first bytes that they leave.
std::string_view likely_mistake(std::string_view start) {
  const size_t text = std::min(start.find_first_not_of(" \t\r\n"), start.size());
  if (start.substr(text).starts_with('<')) return "; this looks like an HTML page: was the download refused?";
  if (start.starts_with("version https://git-lfs")) return "; this is a Git LFS pointer: fetch the file itself";
  if (start.starts_with("PK\x03\x04") || start.starts_with('\x80'))
    return "; this looks like a PyTorch .bin or .pth (pickle) file: convert it to .safetensors";
  return "";
}

class HeaderReader {
 public:
  explicit HeaderReader(std::string_view file) : file_(printable_path(file)) {}

  SafetensorsHeader read(std::string_view json, uint64_t data_bytes) {
    walk_json(file_, json, [this](JsonPath path, const JsonValue& value) { take(path, value); });
    for (const Draft& draft : drafts_) header_.entries.push_back(checked(draft, data_bytes));
    check_coverage(data_bytes);
    return std::move(header_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(std::string_view tensor, const Parts&... parts) const {
    fail<FormatError>(file_, "tensor '", printable(tensor), "': ", parts...);
  }

  void take(JsonPath path, const JsonValue& value) {
    if (path.empty()) {
      if (value.kind != JsonKind::object)
        fail<FormatError>(file_, "header is ", value.describe(), ", expected one JSON object");
    } else if (path[0] == metadata_key) {
      take_metadata(path, value);
    } else if (path.size() == 1) {
      if (value.kind != JsonKind::object)
        refuse(path[0], "entry is ", value.describe(), ", expected an object with dtype, shape and data_offsets");
      if (drafts_.size() == max_tensors) fail<FormatError>(file_, "too many tensors, expected at most ", max_tensors);
      drafts_.push_back({path[0], {}, {}, {}});
    } else if (path[1] == "dtype") {
      take_dtype(drafts_.back(), value);
    } else if (path[1] == "shape") {
      take_list(drafts_.back().shape, path, value);
      if (drafts_.back().shape->size() > Shape::max_rank)
        refuse(path[0], "shape has more than ", int{Shape::max_rank}, " axes, which is not supported here");
    } else if (path[1] == "data_offsets") {
      take_list(drafts_.back().offsets, path, value);
    }  // the format's own reader ignores other fields
  }

  void take_metadata(JsonPath path, const JsonValue& value) {
    if (path.size() == 1) {
      if (value.kind != JsonKind::object)
        fail<FormatError>(file_, metadata_key, " is ", value.describe(), ", expected an object of strings");
    } else {
      if (value.kind != JsonKind::string)
        fail<FormatError>(file_, metadata_key, " '", printable(path[1]), "' is ", value.describe(),
                          ", expected a string");
      header_.metadata[path[1]] = value.text;
    }
  }

  void take_dtype(Draft& draft, const JsonValue& value) {
    if (value.kind != JsonKind::string) refuse(draft.name, "dtype is ", value.describe(), ", expected a string");
    draft.dtype = file_dtype(value.text);
    if (!draft.dtype)
      refuse(draft.name, "unknown dtype '", printable(value.text), "', expected one of the format's, such as F32");
  }

  void take_list(std::optional<std::vector<uint64_t>>& list, JsonPath path, const JsonValue& value) {
    if (path.size() == 2) {
      if (value.kind != JsonKind::array)
        refuse(path[0], path[1], " is ", value.describe(), ", expected an array of integers");
      list.emplace();
    } else {
      if (value.kind != JsonKind::natural)
        refuse(path[0], path[1], " holds ", value.describe(), ", expected integers from 0 to 2^64 - 1");
      list->push_back(value.natural);
    }
  }

  TensorEntry checked(const Draft& draft, uint64_t data_bytes) const {
    if (!draft.dtype) refuse(draft.name, "dtype is missing");
    if (!draft.shape) refuse(draft.name, "shape is missing");
    if (!draft.offsets) refuse(draft.name, "data_offsets is missing");
    if (draft.offsets->size() != 2)
      refuse(draft.name, "data_offsets: got ", draft.offsets->size(), " integers, expected two");
    const uint64_t begin = (*draft.offsets)[0], end = (*draft.offsets)[1];
    if (begin > end) refuse(draft.name, "data_offsets: begin ", begin, " is behind end ", end);
    // Compared with the size of the data, not added to where it begins: nothing here can overflow.
    if (end > data_bytes)
      refuse(draft.name, "data_offsets end at ", end, ", beyond the ", data_bytes, " bytes of data in the file");
    const uint64_t bits = checked_bits(draft);
    if (bits % 8 != 0)
      refuse(draft.name, "got ", bits, " bits of ", name_of(*draft.dtype), ", expected a multiple of 8");
    const Shape shape(std::vector<int64_t>(draft.shape->begin(), draft.shape->end()));
    if (end - begin != bits / 8)
      refuse(draft.name, "data_offsets span ", end - begin, " bytes, expected ", bits / 8, " for ",
             name_of(*draft.dtype), " ", shape);
    return {draft.name, *draft.dtype, shape, begin, end, 0};
  }

  // Elements times bits of one. Zeros are left out of the product until the end, so that a shape that would overflow is
  // refused wherever its zero stands.
  uint64_t checked_bits(const Draft& draft) const {
    uint64_t bits = bits_of(*draft.dtype);
    bool empty = false;
    for (const uint64_t size : *draft.shape) {
      if (size == 0)
        empty = true;
      else if (bits > std::numeric_limits<int64_t>::max() / size)
        refuse(draft.name, "shape overflows: its elements are more than 2^63 bits");
      else
        bits *= size;
    }
    return empty ? 0 : bits;
  }

  // Every byte of the data belongs to exactly one tensor: no hole, no overlap, nothing in front or behind.
  void check_coverage(uint64_t data_bytes) {
    auto& entries = header_.entries;
    std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    uint64_t covered = 0;
    for (const TensorEntry& entry : entries) {
      if (entry.begin != covered)
        refuse(entry.name, "data begins at ", entry.begin, ", expected ", covered,
               entry.begin > covered ? " (a hole in the data)" : " (tensors overlap)");
      covered = entry.end;
    }
    if (covered != data_bytes)
      fail<FormatError>(file_, "tensors end at byte ", covered, " of the data, expected all of its ", data_bytes,
                        " bytes to belong to a tensor");
  }

  std::string file_;
  std::vector<Draft> drafts_;
  SafetensorsHeader header_;
};

}  // namespace

uint64_t read_header_length(std::string_view file, std::string_view start, uint64_t file_size) {
  const std::string where = printable_path(file);
  if (file_size < header_length_bytes)
    fail<FormatError>(where, "file has ", file_size, " bytes, expected at least the 8 of the header length");
  uint64_t length = 0;
  for (size_t i = header_length_bytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(start[i]);
  if (length > max_header_bytes)
    fail<FormatError>(where, "not a safetensors file: got a header length of ", length, ", expected at most ",
                      max_header_bytes, likely_mistake(start));
  if (length > file_size - header_length_bytes)
    fail<FormatError>(where, "file is cut short or not a safetensors file: header length ", length, ", but only ",
                      file_size - header_length_bytes, " bytes follow", likely_mistake(start));
  if (length == 0) fail<FormatError>(where, "header is empty, expected a JSON object");
  return length;
}

SafetensorsHeader parse_header(std::string_view file, std::string_view json, uint64_t data_bytes) {
  return HeaderReader(file).read(json, data_bytes);
}

}  // namespace parabola
