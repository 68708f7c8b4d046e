#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "engine/core/error.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

// Errors of open() that another path would not have given.
bool is_users_choice(int error) {
  for (const int choice : {ENOENT, ENOTDIR, EACCES, EPERM, EROFS, ENAMETOOLONG, ELOOP, EINVAL})
    if (error == choice) return true;
  return false;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  ignore_file_size_signal();
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    if (!fs::is_regular_file(path, ignored) || fs::path(path).filename().empty())
      fail<UsageError>(printable_path(path), "cannot write: it exists and is not a regular file");
    path_ = fs::canonical(path).string();
  }
  if (fs::path(path_).filename().empty())
    fail<UsageError>(printable_path(path), "cannot write: the path names no file");
  for (int attempt = 0;; ++attempt) {  // a killed run with the same process number may have left its temporary
    temporary_ = concat(path_, ".tmp-", ::getpid(), "-", attempt);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) return;
    if (errno == EEXIST) continue;
    const int error = errno;
    if (is_users_choice(error)) fail<UsageError>(printable_path(path), "cannot write: ", reason(error));
    fail<Error>(printable_path(path), "cannot write: ", reason(error));
  }
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::write(const void* data, size_t bytes) {
  PARABOLA_ASSERT(descriptor_ >= 0);
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = ::write(descriptor_, next, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_removing("cannot write");
    next += count;
    bytes -= static_cast<size_t>(count);
  }
}

void AtomicFile::commit() {
  PARABOLA_ASSERT(descriptor_ >= 0);
  if (::fsync(descriptor_) != 0) fail_removing("cannot sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_removing("cannot rename the finished file");
  ::close(descriptor_);
  descriptor_ = -1;
  // The name itself is durable once the folder is. Some file systems cannot sync folders and say EINVAL.
  const fs::path parent = fs::path(path_).parent_path();
  const int folder = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // one may write into a folder without being allowed to read it
  const int error = ::fsync(folder) == 0 ? 0 : errno;
  ::close(folder);
  if (error != 0 && error != EINVAL) fail<Error>(printable_path(path_), "cannot sync its folder: ", reason(error));
}

void AtomicFile::fail_removing(const char* what) {
  const int error = errno;
  discard();
  fail<Error>(printable_path(path_), what, ": ", reason(error));
}

void AtomicFile::discard() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  descriptor_ = -1;
}

void ignore_file_size_signal() {
  struct sigaction action;
  if (::sigaction(SIGXFSZ, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace parabola
