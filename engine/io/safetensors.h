// safetensors: tensors of a model in a file, as u64 header length, JSON header, raw little-endian data
// (https://github.com/huggingface/safetensors, section Format). A file is checked as a whole before the first tensor is
// read; tests/io/safetensors_header_test.cc breaks each rule once. Data is copied out, never mapped.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/shape.h"
#include "engine/io/input_file.h"

namespace parabola {

// Every element type that the format knows, in the order of its table in file_dtype.cc.
// clang-format off
enum class FileDType : uint8_t {
  boolean, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64, c64,
  f8_e4m3, f8_e5m2, f8_e8m0, f8_e4m3fnuz, f8_e5m2fnuz, f4, f6_e2m3, f6_e3m2
};
// clang-format on
std::string_view name_of(FileDType dtype);  // as files spell it: "BF16"
uint64_t bits_of(FileDType dtype);          // of one element; 4 and 6 occur

// One tensor as its file describes it. The name comes from outside: print it through printable(), never open it.
struct TensorEntry {
  std::string name;
  FileDType dtype = FileDType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the file's data
  size_t file = 0;              // which shard; 0 in a single file
};

// Whether read() takes NaN and infinity, which the format allows, or raises FormatError.
enum class NonFinite : uint8_t { allow, refuse };

class Safetensors {
 public:
  // Opens a .safetensors file, or all shards that a `*.json` index names, and checks everything but the values.
  // UsageError where `path` cannot be opened; FormatError, naming file and tensor, where the content breaks a rule.
  explicit Safetensors(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t bytes() const;  // size of the file, or of all shards and the index together
  const std::vector<TensorEntry>& entries() const { return entries_; }  // in the order of the data
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of sharded files: oddities short of errors
  const TensorEntry* find(std::string_view name) const;                   // nullptr where there is none

  // Copies one tensor to `out`, row-major, as `target`. Floating types, integers and BOOL become f32 or f64 (rounded to
  // nearest where need be); the same become i32 where every value is one, else FormatError; bf16, f16 and u8 are
  // copied from their like only. `bytes` must be shape.elements() * size_of(target). FormatError "valid but not
  // supported here" for other pairs; Error where the file was changed since it was opened. Several threads may read at
  // once.
  void read(const TensorEntry& tensor, DType target, std::byte* out, size_t bytes,
            NonFinite values = NonFinite::allow) const;

 private:
  struct File {
    std::unique_ptr<InputFile> input;  // stays open: what is read is what was checked, even if another takes the name
    uint64_t data_begin = 0;
  };
  std::vector<TensorEntry> add_file(const std::string& path);
  void open_index();

  std::string path_;
  uint64_t index_bytes_ = 0;
  std::vector<File> files_;
  std::vector<TensorEntry> entries_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> warnings_;
};

// A tensor to be written: `data` has shape.elements() * size_of(dtype) bytes, row-major, in the file's layout.
struct TensorData {
  std::string name;
  DType dtype;
  Shape shape;
  const void* data;
};

// Writes one file, atomically: larger elements first, then by name, so that each tensor is aligned. The same content
// gives the same bytes. UsageError on a duplicate, overlong or reserved name, text that is not UTF-8, or a header over
// the format's limit; else as AtomicFile.
void write_safetensors(const std::string& path, std::span<const TensorData> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace parabola
