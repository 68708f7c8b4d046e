// Files that appear whole or not at all.
#include "engine/io/atomic_file.h"

#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "engine/core/error.h"
#include "tests/io/io_support.h"
#include "tests/support/test.h"

namespace parabola::atomic_file_test {
namespace {

namespace fs = std::filesystem;

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("AtomicFile: appears with commit, whole") {
  const std::string folder = scratch_folder(), path = folder + "/log.txt";
  {
    AtomicFile file(path);
    file.write("one ");
    file.write(std::string(1'000'000, 'x'));
    CHECK_FALSE(fs::exists(path));
    file.commit();
  }
  CHECK(read_bytes(path) == "one " + std::string(1'000'000, 'x'));
  CHECK(files_in(folder) == 1);
}

TEST_CASE("AtomicFile: without commit everything is as before") {
  const std::string folder = scratch_folder(), path = folder + "/state";
  write_bytes(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    CHECK(read_bytes(path) == "old");
  }
  CHECK(read_bytes(path) == "old");
  CHECK(files_in(folder) == 1);
  AtomicFile file(path);
  file.commit();
  CHECK(read_bytes(path).empty());
}

TEST_CASE("AtomicFile: two at once do not touch each other; the last commit stays") {
  const std::string path = scratch_folder() + "/f";
  AtomicFile first(path), second(path);
  first.write("first");
  second.write("second");
  second.commit();
  CHECK(read_bytes(path) == "second");
  first.commit();
  CHECK(read_bytes(path) == "first");
}

TEST_CASE("AtomicFile: a relative path, and a link that stays a link") {
  const std::string folder = scratch_folder(), elsewhere = scratch_folder() + "/target";
  const fs::path relative = fs::relative(folder) / "r";
  AtomicFile file(relative.string());
  file.write("r");
  file.commit();
  CHECK(read_bytes(folder + "/r") == "r");

  write_bytes(elsewhere, "old");
  fs::create_symlink(elsewhere, folder + "/link");
  AtomicFile through(folder + "/link");
  through.write("new");
  through.commit();
  CHECK(fs::is_symlink(folder + "/link"));
  CHECK(read_bytes(elsewhere) == "new");
}

TEST_CASE("AtomicFile: a path that cannot be written is the user's mistake") {
  const std::string folder = scratch_folder();
  write_bytes(folder + "/file", "x");
  const auto refused = [](const std::string& path, const char* why) {
    INFO(path);
    CHECK_THROWS_WITH_AS(AtomicFile{path}, doctest::Contains(why), UsageError);
  };
  refused(folder + "/none/f", "/none/f] cannot write: No such file or directory");
  refused(folder + "/file/f", "/file/f] cannot write: Not a directory");
  refused(folder, "it exists and is not a regular file");
  refused(folder + "/", "it exists and is not a regular file");
  refused(folder + "/none/", "names no file");
  refused("", "names no file");
  refused("/dev/null", "it exists and is not a regular file");
  refused(folder + "/" + std::string(300, 'n'), "File name too long");
  CHECK(files_in(folder) == 1);
  CHECK(read_bytes(folder + "/file") == "x");
}

TEST_CASE("AtomicFile: a folder that may not be written") {
  if (geteuid() == 0) SKIP("root may write everywhere");
  const std::string folder = scratch_folder();
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  CHECK_THROWS_WITH_AS(AtomicFile(folder + "/f"), doctest::Contains("Permission denied"), UsageError);
  fs::permissions(folder, fs::perms::owner_all);
}

TEST_CASE("AtomicFile: a folder that vanishes while the file is written is the system's failure") {
  const std::string folder = scratch_folder() + "/gone", path = folder + "/f";
  fs::create_directory(folder);
  AtomicFile file(path);
  file.write("x");
  fs::remove_all(folder);
  CHECK_THROWS_WITH_AS(file.commit(), doctest::Contains("cannot rename the finished file: No such file"), Error);
}

TEST_CASE("AtomicFile: a program's own handler of the file-size signal stays") {
  struct sigaction before, own = {}, after;
  own.sa_handler = +[](int) {};
  sigaction(SIGXFSZ, &own, &before);
  ignore_file_size_signal();
  sigaction(SIGXFSZ, nullptr, &after);
  CHECK((after.sa_handler == own.sa_handler));
  own.sa_handler = SIG_DFL;
  sigaction(SIGXFSZ, &own, nullptr);
  ignore_file_size_signal();
  sigaction(SIGXFSZ, nullptr, &after);
  CHECK((after.sa_handler == SIG_IGN));
  sigaction(SIGXFSZ, &before, nullptr);
}

}  // namespace parabola::atomic_file_test
