// Runs after every other case of this folder, since doctest goes by file name.
#include <algorithm>
#include <string>

#include "engine/ops/registry.h"
#include "tests/ops/harness.h"
#include "tests/support/test.h"

namespace parabola::zz_coverage_test {

using namespace test;

TEST_CASE("every op in the registry has been checked by a case, and has a name of its own") {
  if (left_out("tests/ops/")) SKIP("needs the cases of all ops to have run: an option has left some out");
  const std::vector<std::string>& checked = checked_ops();
  for (const OpDef* op : all_ops()) {
    const std::string name(op->name);
    INFO("op ", name);
    CHECK(std::find(checked.begin(), checked.end(), name) != checked.end());
    CHECK(find_op(name) == op);
  }
}

}  // namespace parabola::zz_coverage_test
