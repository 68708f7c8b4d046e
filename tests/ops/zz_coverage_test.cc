// Runs after every other case of this folder, since doctest goes by file name.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/ops/registry.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::zz_coverage_test {

using namespace test;

namespace {

// Whether the program was given options, which may have left cases out.
bool started_with_options() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  const std::string line((std::istreambuf_iterator<char>(in)), {});
  return std::count(line.begin(), line.end(), '\0') > 1;
}

}  // namespace

TEST_CASE("every op in the registry has been checked by a case, and has a name of its own") {
  if (started_with_options()) SKIP("needs the cases of all ops to have run: start the tests without options");
  const std::vector<std::string>& checked = checked_ops();
  for (const OpDef* op : all_ops()) {
    const std::string name(op->name);
    INFO("op ", name);
    CHECK(std::find(checked.begin(), checked.end(), name) != checked.end());
    CHECK(find_op(name) == op);
  }
}

}  // namespace parabola::zz_coverage_test
