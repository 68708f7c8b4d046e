// A file opened for reading at any position, with errors that say whose fault it is.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace parabola {

// A path as messages show it: control characters escaped, never cut (4096 bytes are Linux' longest path).
std::string printable_path(std::string_view path);

class InputFile {
 public:
  // Opens a regular file. UsageError where there is none, it is a folder or a device, or may not be read.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // in bytes, when it was opened

  // Copies `bytes` bytes from position `offset` to `out`; may be called from several threads. Error where the system
  // fails or the file has become shorter.
  void read(uint64_t offset, void* out, size_t bytes) const;

  // Error where somebody has written to the file since it was opened, as far as its size and time tell.
  void check_unchanged() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  int64_t written_s_ = 0, written_ns_ = 0;  // time of the last write
};

}  // namespace parabola
