// The emulated suite's own last word: every kernel of the engine has run. Also sets the suite up: ops are tested on the
// emulated device, whatever PARABOLA_TEST_DEVICE says.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <set>

#include "tests/emulated/grid.h"
#include "tests/ops/run_case.h"
#include "tests/support/test.h"

namespace parabola::emulated {
namespace {

// Prints the count, and whatever has not run: a kernel, or an instance of one that is a template.
bool every_kernel_ran(bool complete) {
  const std::vector<std::string> defined = kernels_in_sources("engine");
  const std::set<std::string> names(defined.begin(), defined.end());
  bool well = true;
  const auto complain = [&](const std::string& what) {
    if (complete) std::cout << what << std::endl, well = false;
  };
  for (const std::string& name : names)
    if (std::ranges::count(defined, name) > 1)
      complain("two kernels have the name " + name + ", expected names of their own");
  std::set<std::string> ran;
  for (const Kernel& kernel : linked_kernels()) {
    if (!names.contains(kernel.name)) continue;
    if (launches().contains(kernel.address))
      ran.insert(kernel.name);
    else
      complain("never ran on the emulated grid: " + kernel.full_name);
  }
  for (const std::string& name : names)
    if (!ran.contains(name)) complain("never ran on the emulated grid: " + name);
  std::cout << "kernels: " << names.size() << " defined, " << ran.size() << " ran on the emulated grid" << std::endl;
  return well;
}

const bool set_up = [] {
  setenv("PARABOLA_TEST_DEVICE", "cuda", 1);
  test::reverse_order = [](bool reverse) { set_order(reverse ? Order::reverse : Order::forward); };
  at_the_end(every_kernel_ran);
  return true;
}();

}  // namespace
}  // namespace parabola::emulated
