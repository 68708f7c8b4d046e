// The test program: doctest, and a listener that also knows skipped cases.
#define DOCTEST_CONFIG_IMPLEMENT
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "tests/support/test.h"

namespace {

struct Counts {
  int passed = 0, failed = 0, skipped = 0;
  bool ran = false;                // false when doctest only answered a query such as --list-test-cases
  std::set<std::string> left_out;  // files of which an option left cases out
} counts;

std::vector<bool (*)(bool)>& final_checks() {
  static std::vector<bool (*)(bool)> checks;
  return checks;
}

// Counts cases, prints each skipped one with its reason, and shows on a terminal which case runs now; where output goes
// to a file, it names the cases that take long instead. doctest itself prints the failures.
class Listener : public doctest::IReporter {
 public:
  explicit Listener(const doctest::ContextOptions& options)
      : options_(options), terminal_(isatty(STDOUT_FILENO) != 0) {}

  void test_run_start() override { counts.ran = true; }

  void test_case_start(const doctest::TestCaseData& test) override {
    name_ = test.m_name;
    parabola::forget_skip();
    save_counts(1);
    if (terminal_) *options_.cout << "\r\033[K" << name_ << std::flush;
  }

  void test_case_end(const doctest::CurrentTestCaseStats& result) override {
    if (terminal_) *options_.cout << "\r\033[K";
    const auto& reason = parabola::skipped_because();
    if (!result.testCaseSuccess) {
      ++counts.failed;
    } else if (reason) {
      ++counts.skipped;
      *options_.cout << "skipped: " << name_ << ": " << *reason << std::endl;
    } else {
      ++counts.passed;
    }
    constexpr double long_case = 5;  // seconds
    if (result.seconds > long_case) {
      *options_.cout << static_cast<int>(result.seconds + 0.5) << " s: " << name_ << std::endl;
    }
  }

  void test_run_end(const doctest::TestRunStats&) override {
    for (const auto check : final_checks())
      if (!check(counts.left_out.empty())) ++counts.failed;
    save_counts(0);
  }

  // doctest calls this for what a filter leaves out, too: only a case marked doctest::skip() counts.
  void test_case_skipped(const doctest::TestCaseData& test) override {
    if (test.m_skip && !options_.no_skip)
      ++counts.skipped;
    else
      counts.left_out.insert(test.m_file.c_str());
  }

  void report_query(const doctest::QueryData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}

 private:
  // A case counts as failed while it runs, so that the file is right even where one ends the process.
  static void save_counts(int running) {
    if (const char* file = std::getenv("PARABOLA_TEST_COUNTS")) {
      std::ofstream(file) << counts.passed << ' ' << counts.failed + running << ' ' << counts.skipped << '\n';
    }
  }

  const doctest::ContextOptions& options_;
  bool terminal_;
  std::string name_;
};
REGISTER_LISTENER("skips", 1, Listener);

}  // namespace

namespace parabola {
void at_the_end(bool (*check)(bool complete)) { final_checks().push_back(check); }

bool left_out(const std::string& folder) {
  return std::any_of(counts.left_out.begin(), counts.left_out.end(),
                     [&](const std::string& file) { return file.find(folder) != std::string::npos; });
}
}  // namespace parabola

// Takes every option of doctest (--help lists them): build/bin/tests -tc='*conv2d*'. Where PARABOLA_TEST_COUNTS names a
// file, the counts go there as "passed failed skipped", for whoever sums up several runs, and the last line is theirs.
int main(int argc, char** argv) {
  doctest::Context context;
  context.setOption("minimal", true);  // failures only
  context.applyCommandLine(argc, argv);
  const int status = context.run();
  if (counts.ran && !std::getenv("PARABOLA_TEST_COUNTS")) {
    std::cout << "tests: " << counts.passed << " passed, " << counts.failed << " failed, " << counts.skipped
              << " skipped" << std::endl;
  }
  return counts.failed > 0 ? 1 : status;
}
