// Which kernels there are: in the sources, and in this program.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "engine/core/error.h"
#include "tests/emulated/grid.h"

extern "C" void parabola_emulated_anchor() {}

namespace parabola::emulated {
namespace {

std::string demangled(const std::string& symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : symbol;
  std::free(text);
  return name;
}

std::vector<Kernel> read_symbols() {
  FILE* nm = popen("nm /proc/$PPID/exe", "r");
  if (!nm) fail<Error>("emulated grid", "cannot run nm");
  const std::string tag = "[abi:kernel]";
  std::vector<std::pair<uintptr_t, std::string>> found;
  uintptr_t anchor = 0;
  char line[4096];
  while (std::fgets(line, sizeof line, nm)) {
    std::istringstream words(line);
    std::string address, type, symbol;
    if (!(words >> address >> type >> symbol)) continue;
    const uintptr_t at = std::strtoull(address.c_str(), nullptr, 16);
    if (symbol == "parabola_emulated_anchor") anchor = at;
    // A dot comes with what the compiler has split off (".cold").
    const bool is_function = type == "t" || type == "T" || type == "W";
    if (is_function && symbol.find("B6kernel") != std::string::npos && symbol.find('.') == std::string::npos)
      found.emplace_back(at, demangled(symbol));
  }
  if (pclose(nm) != 0 || anchor == 0) fail<Error>("emulated grid", "nm cannot read this program");
  const uintptr_t slide = reinterpret_cast<uintptr_t>(&parabola_emulated_anchor) - anchor;
  std::vector<Kernel> kernels;
  for (const auto& [at, full_name] : found) {
    const size_t end = full_name.find(tag);
    if (end == std::string::npos) continue;
    const size_t before = full_name.substr(0, end).find_last_of(": ");
    const size_t begin = before == std::string::npos ? 0 : before + 1;
    kernels.push_back({full_name.substr(begin, end - begin), full_name, reinterpret_cast<const void*>(at + slide)});
  }
  return kernels;
}

}  // namespace

const std::vector<Kernel>& linked_kernels() {
  static const std::vector<Kernel> kernels = read_symbols();
  return kernels;
}

std::string name_of_kernel(const void* address) {
  for (const Kernel& kernel : linked_kernels())
    if (kernel.address == address) return kernel.full_name;
  return "a kernel";
}

std::vector<std::string> kernels_in_sources(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (extension != ".cu" && extension != ".cuh") continue;
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    for (size_t at = text.find("__global__"); at != std::string::npos; at = text.find("__global__", at + 1)) {
      // The name is the word before the first parenthesis that does not open launch bounds.
      std::string word;
      size_t open = at;
      do {
        open = text.find('(', open + 1);
        if (open == std::string::npos) fail<Error>("emulated grid", entry.path(), ": a kernel without a name");
        const size_t end = text.find_last_not_of(' ', open - 1) + 1, begin = text.find_last_of(" \n*&>", end - 1) + 1;
        word = text.substr(begin, end - begin);
      } while (word == "__launch_bounds__");
      names.push_back(word);
    }
  }
  return names;
}

}  // namespace parabola::emulated
