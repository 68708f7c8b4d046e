// The house rules that a program can check (docs/architecture.md): who includes whom, file lengths, no exit() below
// apps, nothing in the tree that is true on one machine only.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/test.h"

namespace parabola::house_test {
namespace {
namespace fs = std::filesystem;

struct File {
  std::string path;  // from the repository root: "engine/ops/gelu.cc"
  std::vector<std::string> lines;
};

bool starts_with_any(std::string_view text, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

bool ends_with_any(std::string_view text, const std::vector<std::string>& suffixes) {
  for (const std::string& suffix : suffixes) {
    if (text.ends_with(suffix)) return true;
  }
  return false;
}

const std::vector<std::string> code_suffixes = {".h", ".cc", ".cu", ".cuh"};
const std::vector<std::string> top_level = {"Makefile", "README.md", "LICENSE", "engine", "layers",     "optim",
                                            "data",     "apps",      "tests",   "docs",   "third_party"};

std::vector<File> read_tree() {
  std::vector<File> files;
  auto read = [&](const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    File file{path.generic_string(), {}};
    for (std::string line; std::getline(in, line);) file.lines.push_back(line);
    files.push_back(std::move(file));
  };
  std::vector<std::string> roots = top_level;
  roots.insert(roots.end(), {".ci", ".clang-format", ".clang-tidy", ".gitignore"});
  for (const std::string& root : roots) {
    if (fs::is_regular_file(root)) read(root);
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_regular_file() && entry.path().extension() != ".pyc") read(entry.path());
    }
  }
  return files;
}

const std::vector<File>& tree() {
  static const std::vector<File> files = read_tree();
  return files;
}

// The path in `#include "path"` or `#include <path>`; empty for any other line.
std::string included(std::string_view line) {
  const size_t start = line.find_first_not_of(" \t");
  if (start == std::string_view::npos || !line.substr(start).starts_with("#include")) return "";
  const size_t open = line.find_first_of("\"<", start);
  if (open == std::string_view::npos) return "";
  const size_t close = line.find_first_of("\">", open + 1);
  return std::string(line.substr(open + 1, close - open - 1));
}

// What each part of the house may include of the house.
const std::map<std::string, std::vector<std::string>> may_include = {
    {"engine/core/", {"engine/core/"}},
    {"engine/cuda/", {"engine/cuda/", "engine/core/"}},
    {"engine/blas/", {"engine/blas/", "engine/cuda/", "engine/core/"}},
    {"engine/ops/", {"engine/ops/", "engine/blas/", "engine/cuda/", "engine/core/"}},
    {"engine/tape/", {"engine/tape/", "engine/ops/", "engine/blas/", "engine/core/"}},
    {"engine/io/", {"engine/io/", "engine/core/"}},
    {"layers/", {"layers/", "engine/"}},
    {"optim/", {"optim/", "engine/"}},
    {"data/", {"data/", "engine/"}},
    {"apps/", {"apps/", "layers/", "optim/", "data/", "engine/"}},
    {"apps/tutorial/", {"layers/", "optim/", "data/", "engine/"}},
};
const std::vector<std::string> house = {"engine/", "layers/", "optim/", "data/", "apps/", "tests/"};

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// True where `line` calls `function` outside of a // comment.
bool calls(std::string_view line, std::string_view function) {
  line = line.substr(0, line.find("//"));
  for (size_t at = line.find(function); at != std::string_view::npos; at = line.find(function, at + 1)) {
    const bool own_word = at == 0 || !is_name(line[at - 1]);
    const size_t after = line.find_first_not_of(' ', at + function.size());
    if (own_word && after != std::string_view::npos && line[after] == '(') return true;
  }
  return false;
}

// True where an absolute path below one of `roots` ("/home") stands in the line; "usr/home/x" and
// "https://a.org/home/x" have a letter before the slash and are none.
bool has_absolute_path(std::string_view line, const std::vector<std::string>& roots) {
  for (const std::string& root : roots) {
    for (size_t at = line.find(root + '/'); at != std::string_view::npos; at = line.find(root + '/', at + 1)) {
      if (at == 0 || !(is_name(line[at - 1]) || line[at - 1] == '.')) return true;
    }
  }
  return false;
}

// The broken rules of one kind, one to a line: what a failing test prints.
std::string report;
void broken(const File& file, size_t line, std::string_view what) {
  report += file.path + ":" + std::to_string(line + 1) + ": " + std::string(what) + "\n";
}

}  // namespace

TEST_CASE("house: tests run from the repository root") {
  REQUIRE(fs::is_regular_file("Makefile"));
  REQUIRE(fs::is_directory("engine/core"));
}

TEST_CASE("house: the helpers of this file see what they look for") {
  CHECK(included("#include \"engine/core/shape.h\"") == "engine/core/shape.h");
  CHECK(included("  #include <Eigen/Core>  // why") == "Eigen/Core");
  CHECK(included("// #include <Eigen/Core>").empty());
  CHECK(calls("  std::exit(1);", "exit"));
  CHECK(calls("exit (1);", "exit"));
  CHECK_FALSE(calls("on_exit(1);", "exit"));
  CHECK_FALSE(calls("leave();  // never exit()", "exit"));
  CHECK(has_absolute_path("cd /nowhere/main", {"/nowhere"}));
  CHECK(has_absolute_path("/nowhere/main", {"/nowhere"}));
  CHECK_FALSE(has_absolute_path("https://example.org/nowhere/main", {"/nowhere"}));
}

TEST_CASE("house: includes go downward only") {
  report.clear();
  for (const File& file : tree()) {
    if (!ends_with_any(file.path, code_suffixes)) continue;
    for (const auto& [part, allowed] : may_include) {
      if (!file.path.starts_with(part)) continue;
      for (size_t i = 0; i < file.lines.size(); ++i) {
        const std::string path = included(file.lines[i]);
        if (starts_with_any(path, house) && !starts_with_any(path, allowed)) broken(file, i, "includes " + path);
      }
    }
  }
  CHECK(report == "");
}

TEST_CASE("house: public headers include neither Eigen nor CUDA") {
  report.clear();
  for (const File& file : tree()) {
    if (!file.path.ends_with(".h") || !starts_with_any(file.path, {"engine/", "layers/", "optim/", "data/"})) continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      const std::string path = included(file.lines[i]);
      if (starts_with_any(path, {"Eigen", "unsupported/Eigen", "cuda", "cublas"})) broken(file, i, "includes " + path);
    }
  }
  CHECK(report == "");
}

TEST_CASE("house: kernels are launched and share memory through engine/cuda, so that they also run emulated") {
  report.clear();
  for (const File& file : tree()) {
    if (!ends_with_any(file.path, {".cu", ".cuh"}) || file.path.starts_with("engine/cuda/")) continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      const std::string line = file.lines[i].substr(0, file.lines[i].find("//"));
      for (const char* word : {"<<<", "__shared__", "asm", "#if", "cuda_runtime.h", "__shfl", "__ballot"})
        if (line.find(word) != std::string::npos) broken(file, i, std::string("has ") + word);
    }
  }
  CHECK(report == "");
}

TEST_CASE("house: nothing below apps/ ends the process") {
  report.clear();
  for (const File& file : tree()) {
    if (!ends_with_any(file.path, code_suffixes)) continue;
    if (!starts_with_any(file.path, {"engine/", "layers/", "optim/", "data/"})) continue;
    for (size_t i = 0; i < file.lines.size(); ++i) {
      for (const char* function : {"exit", "_exit", "_Exit", "quick_exit", "abort", "terminate"}) {
        if (calls(file.lines[i], function)) broken(file, i, std::string("calls ") + function + "()");
      }
    }
  }
  CHECK(report == "");
}

TEST_CASE("house: every file can be read in one sitting") {
  report.clear();
  for (const File& file : tree()) {
    if (!ends_with_any(file.path, code_suffixes) && !ends_with_any(file.path, {".py", ".sh", "Makefile"})) continue;
    const size_t limit = file.path.starts_with("engine/ops/")      ? 200
                         : file.path.starts_with("apps/tutorial/") ? 120
                                                                   : 500;
    if (file.lines.size() > limit) broken(file, limit, "over " + std::to_string(limit) + " lines");
  }
  CHECK(report == "");
}

TEST_CASE("house: docs/ops says what the headers of the ops say") {
  const std::string folder = scratch_folder();
  REQUIRE(run_program({"/bin/sh", "docs/ops.sh", folder}).code == 0);
  const auto pages_in = [](const fs::path& path) {
    std::map<std::string, std::string> pages;
    for (const auto& entry : fs::directory_iterator(path)) {
      std::ifstream in(entry.path(), std::ios::binary);
      pages[entry.path().filename()] = {std::istreambuf_iterator<char>(in), {}};
    }
    return pages;
  };
  const auto made = pages_in(folder), committed = pages_in("docs/ops");
  report.clear();
  for (const auto& [name, text] : made)
    if (!committed.contains(name) || committed.at(name) != text) report += name + " is not up to date: make docs\n";
  for (const auto& [name, text] : committed)
    if (!made.contains(name)) report += name + " is of no header: make docs\n";
  CHECK(report == "");
}

TEST_CASE("house: no path of one machine stands in the tree") {
  // Spelt in two halves, or this file would break the rule itself.
  std::vector<std::string> roots;
  for (const char* name : {"work", "farm", "home", "root"}) roots.push_back(std::string("/") + name);
  report.clear();
  for (const File& file : tree()) {
    for (size_t i = 0; i < file.lines.size(); ++i) {
      if (has_absolute_path(file.lines[i], roots)) broken(file, i, "names a path of one machine");
    }
  }
  CHECK(report == "");
}

TEST_CASE("house: the top level holds what docs/architecture.md lists, and dot files") {
  std::string strangers;
  for (const auto& entry : fs::directory_iterator(".")) {
    const std::string name = entry.path().filename();
    const bool ignored = name.starts_with('.') || name.starts_with("build") || name == "peers";  // as in .gitignore
    const bool listed = std::find(top_level.begin(), top_level.end(), name) != top_level.end();
    if (!ignored && !listed) strangers += name + "\n";
  }
  CHECK(strangers == "");
}

}  // namespace parabola::house_test
