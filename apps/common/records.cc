#include "apps/common/records.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iostream>

#include "engine/core/error.h"

namespace parabola {
namespace {

template <class Float>
std::string shortest(Float value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

}  // namespace

std::string json_number(double value) { return shortest(value); }
std::string json_number(float value) { return shortest(value); }

JsonLines::JsonLines(std::string path, int64_t keep) : path_(std::move(path)), bytes_(keep) {
  if (path_.empty()) return;
  if (path_ == "-") {
    file_ = STDOUT_FILENO;
    return;
  }
  file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (file_ < 0 && errno == ENOENT) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    created_ = file_ >= 0;
  }
  if (file_ < 0)
    throw UsageError(concat(printable(path_), ": ", std::strerror(errno), ", expected a file that can be written"));
  struct stat status {};
  regular_ = ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
  if (regular_ && (status.st_size < keep || ::lseek(file_, keep, SEEK_SET) != keep)) {
    ::close(file_);
    if (created_) ::unlink(path_.c_str());
    throw UsageError(concat(printable(path_), ": has ", status.st_size, " bytes, expected the ", keep,
                            " that the saved state remembers"));
  }
}

JsonLines::~JsonLines() {
  if (file_ < 0 || file_ == STDOUT_FILENO) return;
  ::close(file_);
  if (created_ && regular_ && !written_) ::unlink(path_.c_str());
}

void JsonLines::write(const Record& record) {
  if (file_ < 0) return;
  const std::string line = record.str() + "\n";
  if (regular_ && !written_ && ::ftruncate(file_, bytes_) != 0)
    throw Error(concat(printable(path_), ": cannot be cut to its first ", bytes_, " bytes: ", std::strerror(errno)));
  for (size_t done = 0; done < line.size();) {
    const ssize_t count = ::write(file_, line.data() + done, line.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int reason = errno;
      // Readers of the file expect whole lines; where even cutting fails there is nothing better to do.
      if (regular_ && ::ftruncate(file_, bytes_) == 0) ::lseek(file_, bytes_, SEEK_SET);
      throw Error(
          concat(path_ == "-" ? "standard output" : printable(path_), ": cannot be written: ", std::strerror(reason)));
    }
    done += static_cast<size_t>(count);
  }
  written_ = true;
  bytes_ += static_cast<int64_t>(line.size());
}

std::ostream& human_output(std::string_view json_path) { return json_path == "-" ? std::cerr : std::cout; }

}  // namespace parabola
