#include "engine/io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "engine/core/error.h"

namespace parabola {

std::string printable_path(std::string_view path) { return printable(path, 4096); }

InputFile::InputFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO by mistake must fail below, not wait for a writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    const int error = errno;
    fail<UsageError>(printable_path(path), "cannot open for reading: ", std::generic_category().message(error));
  }
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail<UsageError>(printable_path(path), S_ISDIR(status.st_mode) ? "is a folder" : "is not a regular file",
                     ", expected a file");
  }
  size_ = static_cast<uint64_t>(status.st_size);
  written_s_ = status.st_mtim.tv_sec;
  written_ns_ = status.st_mtim.tv_nsec;
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(uint64_t offset, void* out, size_t bytes) const {
  char* next = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t count = ::pread(descriptor_, next, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      fail<Error>(printable_path(path_), "cannot read: ", std::generic_category().message(error));
    }
    if (count == 0)
      fail<Error>(printable_path(path_), "file became shorter while it was read: got ", offset, " bytes, expected ",
                  bytes, " more");
    next += count;
    offset += static_cast<uint64_t>(count);
    bytes -= static_cast<size_t>(count);
  }
}

void InputFile::check_unchanged() const {
  struct stat now = {};
  if (::fstat(descriptor_, &now) != 0 || static_cast<uint64_t>(now.st_size) != size_ ||
      now.st_mtim.tv_sec != written_s_ || now.st_mtim.tv_nsec != written_ns_)
    fail<Error>(printable_path(path_), "file was changed while it was in use");
}

}  // namespace parabola
