// Files that appear whole or not at all. Everything the project writes goes through here, so that neither a full disk
// nor a kill leaves a half-written file under a name that somebody reads.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace parabola {

// Writes to a temporary file beside `path`; commit() makes it durable and gives it the name.
//     AtomicFile file("out/model.safetensors");
//     file.write(text);
//     file.commit();  // without this line the destructor removes the temporary, and `path` is as it was
class AtomicFile {
 public:
  // Creates the temporary file; where `path` is a symbolic link, beside the file that it leads to. UsageError where
  // that is impossible through the user's choice of path: no such folder, below a regular file, no permission,
  // `path` a folder or a device. Error where the system fails.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends, unbuffered. Error, with the temporary already removed, on a full disk, a file-size limit and the like.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }

  // Syncs the file, renames it to `path` (replacing what was there), syncs the folder. Error as write().
  void commit();

 private:
  [[noreturn]] void fail_removing(const char* what);
  void discard();

  std::string path_, temporary_;
  int descriptor_ = -1;
};

// Makes a write beyond RLIMIT_FSIZE come back as an error rather than kill the process (SIGXFSZ is ignored unless the
// program handles it itself). AtomicFile calls it; a program that writes elsewhere too calls it first thing.
void ignore_file_size_signal();

}  // namespace parabola
