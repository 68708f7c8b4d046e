#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/core/error.h"

namespace parabola {
namespace {
namespace fs = std::filesystem;

std::optional<std::string> skip_reason;
std::string missing_reason;

std::string read_all(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Makes a folder PREFIX.XXXXXX that nobody else has.
fs::path new_folder(const fs::path& prefix) {
  fs::create_directories(prefix.parent_path());
  std::string name = prefix.string() + ".XXXXXX";
  if (!mkdtemp(name.data())) fail<Error>("test", "cannot make a folder ", name, ": ", std::strerror(errno));
  return name;
}

// The scratch folders of this process live in one folder, so that the end of the process has one thing to remove.
struct Scratch {
  fs::path folder = new_folder(fs::path(build_folder()) / "scratch" / "test");
  int used = 0;
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
};

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

std::string unpack_cifar10() {
  const fs::path target = "build/cache/cifar10";
  if (fs::exists(target / "test_batch.bin")) return target;
  const std::string data = data_folder();
  if (data.empty()) return "";
  const fs::path script = fs::path(data) / "unpack-cifar10.sh";
  if (!fs::exists(script)) {
    missing_reason = concat("no ", script.string());
    return "";
  }
  // Whoever renames first wins; a folder that has the final name is complete.
  const fs::path unpacked = new_folder(target);
  const ProgramResult result = run_program({"/bin/sh", script, unpacked});
  std::error_code failed;
  if (result.code == 0) fs::rename(unpacked, target, failed);
  if (result.code != 0 || failed) fs::remove_all(unpacked);
  if (fs::exists(target / "test_batch.bin")) return target;
  missing_reason = concat("unpack-cifar10.sh failed: ", printable(last_line(result.err)));
  return "";
}

int open_for_writing(const fs::path& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) fail<Error>("test", "cannot write ", path.string(), ": ", std::strerror(errno));
  return file;
}

}  // namespace

void skip_test_case(std::string_view reason) { skip_reason = reason; }
const std::optional<std::string>& skipped_because() { return skip_reason; }
void forget_skip() { skip_reason.reset(); }

bool long_tests() {
  const char* value = std::getenv("PARABOLA_LONG");
  return value && std::string_view(value) == "1";
}

Device test_device() {
  const char* value = std::getenv("PARABOLA_TEST_DEVICE");
  const std::string_view name = value && *value ? value : "cpu";
  if (name == "cpu") return {};
  if (name == "cuda") return {DeviceKind::cuda, 0};
  if (name.starts_with("cuda:") && name.size() == 6 && name[5] >= '0' && name[5] <= '9')
    return {DeviceKind::cuda, name[5] - '0'};
  fail<UsageError>("test", "PARABOLA_TEST_DEVICE: got ", printable(name), ", expected cpu, cuda or cuda:N");
}

std::string data_folder() {
  const char* value = std::getenv("PARABOLA_DATA");
  const std::string folder = value && *value ? value : "../shared/data";
  if (fs::is_directory(folder)) return folder;
  missing_reason = concat("no development data in ", folder, " (PARABOLA_DATA names the folder)");
  return "";
}

std::string cifar10_folder() {
  static const std::string folder = unpack_cifar10();
  static const std::string reason = missing_reason;
  if (folder.empty()) missing_reason = reason;
  return folder;
}

std::string missing_data() { return missing_reason; }

std::string build_folder() { return fs::read_symlink("/proc/self/exe").parent_path().parent_path(); }

bool sanitized() { return fs::path(build_folder()).filename() != "build"; }

std::string scratch_folder() {
  static Scratch scratch;
  const fs::path folder = scratch.folder / std::to_string(scratch.used++);
  fs::create_directory(folder);
  return folder;
}

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  const bool is_path = arguments.at(0).find('/') != std::string::npos;
  const std::string program = is_path ? arguments[0] : fs::absolute(build_folder() + "/bin/" + arguments[0]).string();

  // All memory is allocated before fork(): another thread may hold the allocator's lock at that moment.
  std::vector<char*> argv, environment;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  for (const std::string& variable : options.environment) environment.push_back(const_cast<char*>(variable.c_str()));
  for (char** variable = environ; *variable; ++variable) environment.push_back(*variable);
  argv.push_back(nullptr);
  environment.push_back(nullptr);

  // Files instead of pipes: no reader is needed beside the program.
  const fs::path folder = scratch_folder(), out_path = folder / "out", err_path = folder / "err";
  const int out = open_for_writing(out_path), err = open_for_writing(err_path);
  const pid_t child = fork();
  if (child < 0) fail<Error>("test", "cannot fork: ", std::strerror(errno));
  if (child == 0) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (options.file_size_limit) {
      const rlimit limit{static_cast<rlim_t>(*options.file_size_limit), static_cast<rlim_t>(*options.file_size_limit)};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
    execve(program.c_str(), argv.data(), environment.data());
    _exit(127);  // as a shell says "not found"
  }
  close(out);
  close(err);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) fail<Error>("test", "cannot run ", program);
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return {code, read_all(out_path), read_all(err_path)};
}

}  // namespace parabola
