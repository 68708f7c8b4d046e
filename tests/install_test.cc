// make install, and a program that is compiled against what it installed (tests/consumer).
#include <filesystem>
#include <map>
#include <sstream>

#include "tests/apps/cli.h"

namespace parabola::install_test {
namespace {

ProgramResult shell(const std::string& command) { return run_program({"/bin/sh", "-c", command}); }

// The value of "NAME: value" in a pkg-config file, with its ${variables} filled in: what pkg-config --NAME says, which
// need not be on this machine.
std::string pkg_config(const std::string& path, const std::string& name) {
  std::map<std::string, std::string> fields;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    for (const auto& [variable, value] : std::map(fields)) {
      const std::string use = "${" + variable + "}";
      for (size_t at; (at = line.find(use)) != std::string::npos;) line.replace(at, use.size(), value);
    }
    const size_t end = line.find_first_of("=:");
    if (end != std::string::npos) fields[line.substr(0, end)] = line.substr(end + 1);
  }
  return fields[name];
}

}  // namespace

TEST_CASE("install: a program with an op of its own compiles against the installed library, and runs") {
  if (sanitized()) SKIP("what is installed is the plain build");
  const std::string prefix = scratch_folder();
  // -j1: not the jobs of a make that runs this test. CUDA=0: the apps stay linked as they are.
  const ProgramResult install = shell("make -j1 CUDA=0 PARABOLA_FOUND=yes DESTDIR= PREFIX=" + prefix + " install");
  REQUIRE_MESSAGE(install.code == 0, install.err);

  const std::string description = prefix + "/lib/pkgconfig/parabola.pc", program = prefix + "/cube";
  const ProgramResult compile =
      shell("c++ -Wall -Wextra -Wno-missing-field-initializers -Werror " + pkg_config(description, "Cflags") +
            " tests/consumer/cube.cc " + pkg_config(description, "Libs") + " -o " + program);
  REQUIRE_MESSAGE(compile.code == 0, compile.err);
  const ProgramResult run = run_program({program});
  CHECK(run.err == "");
  CHECK(run.out == "loss 35, gradient 0 12 27\nmlp: 6 parameter tensors\n");
  CHECK(run.code == 0);

  // Another compiler, or another version of this one, cannot read link-time-optimised objects.
  CHECK(read_file(prefix + "/lib/libparabola.a").find(".gnu.lto_") == std::string::npos);
  for (const char* app : {"adapt", "bench", "demo", "evaluate", "inspect", "train"})
    CHECK_MESSAGE(std::filesystem::exists(prefix + "/bin/" + app), app);

  if (shell("command -v pkg-config").code != 0) SKIP("no pkg-config to compare with");
  const ProgramResult asked = shell("PKG_CONFIG_PATH=" + prefix + "/lib/pkgconfig pkg-config --cflags --libs parabola");
  CHECK_MESSAGE(asked.code == 0, asked.err);
  for (const std::string word : {"-std=c++20", "-lparabola", "-lz", "-ldl", "-pthread"})
    CHECK_MESSAGE(asked.out.find(word) != std::string::npos, asked.out);
}

}  // namespace parabola::install_test
