// The book, apps/tutorial: every chapter prints what its last comment says. There, a line that ends in "..."
// stands for any that begins so. The last digit of a number with decimals may be off by one, since rounding differs
// from one processor to the next; by five where the number has a ~ before it, what came out of a long training.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "tests/apps/cli.h"

namespace parabola::tutorial_test {
namespace {
namespace fs = std::filesystem;

const std::string folder = "apps/tutorial/", trains = "04_fashion";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The number that `text` begins with, digits and at most one point, which it loses; and how many decimals it has.
std::pair<double, int> take_number(std::string_view& text) {
  const std::string digits(text.substr(0, text.find_first_not_of("0123456789.")));
  text.remove_prefix(digits.size());
  const size_t point = digits.find('.');
  return {std::strtod(digits.c_str(), nullptr), point == std::string::npos ? 0 : int(digits.size() - point - 1)};
}

bool agrees(std::string_view line, std::string_view expected) {
  if (expected.ends_with("...")) return line.starts_with(expected.substr(0, expected.size() - 3));
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (char before = ' '; !line.empty() && !expected.empty();) {
    if (is_digit(line[0]) && is_digit(expected[0])) {
      const auto [value, decimals] = take_number(line);
      const auto [wanted, wanted_decimals] = take_number(expected);
      const double slack = decimals > 0 ? (before == '~' ? 5.01 : 1.01) * std::pow(10, -decimals) : 0;
      if (decimals != wanted_decimals || std::abs(value - wanted) > slack) return false;
    } else {
      if (line[0] != expected[0]) return false;
      before = line[0];
      line.remove_prefix(1), expected.remove_prefix(1);
    }
  }
  return line.empty() && expected.empty();
}

// Runs a chapter in a folder of its own and compares; why it could not run here, or nothing.
std::string check_chapter(const std::string& name) {
  const std::string source = read_file(folder + name + ".cc");
  const size_t prints = source.find("\n// Prints:\n");
  REQUIRE_MESSAGE(prints != std::string::npos, "no expected output");
  CHECK_MESSAGE(source.starts_with("// Chapter " + std::to_string(std::stoi(name)) + ". "), "no title");
  CHECK_MESSAGE(source.find("\n// At the end of this chapter you ") != std::string::npos, "no aim");
  CHECK_MESSAGE(source.find("\n// Exercise: ") != std::string::npos, "no exercise");

  const std::string program = build_folder() + "/bin/tutorial/" + name;
  const ProgramResult run = run_program({"/bin/sh", "-c", "cd '" + scratch_folder() + "' && exec '" + program + "'"});
  CHECK(run.err == "");
  CHECK_MESSAGE(run.code == 0, "make chapters builds it: ", program);
  if (run.out.starts_with("not here: ")) return run.out.substr(10, run.out.find('\n') - 10);
  const std::vector<std::string> printed = lines_of(run.out);
  std::vector<std::string> expected = lines_of(source.substr(prints + std::string("\n// Prints:\n").size()));
  for (std::string& line : expected) line.erase(0, std::string("//   ").size());
  CHECK_MESSAGE(printed.size() == expected.size(), run.out);
  for (size_t i = 0; i < std::min(printed.size(), expected.size()); ++i)
    CHECK_MESSAGE(agrees(printed[i], expected[i]), "got '", printed[i], "', expected '", expected[i], "'");
  return "";
}

}  // namespace

TEST_CASE("tutorial: output is compared up to the last decimal") {
  CHECK(agrees("y = 0.42, 3 nodes", "y = 0.43, 3 nodes"));
  CHECK(agrees("y = 1.00", "y = 0.99"));
  CHECK(agrees("y = ~0.42", "y = ~0.46"));
  CHECK_FALSE(agrees("y = 0.42, 3 nodes", "y = 0.44, 3 nodes"));
  CHECK_FALSE(agrees("y = 0.42, 3 nodes", "y = 0.42, 4 nodes"));
  CHECK_FALSE(agrees("y = 0.42", "y = 0.4"));
  CHECK_FALSE(agrees("y = 0.42", "y = -0.42"));
  CHECK(agrees("device: none", "device: ..."));
}

TEST_CASE("tutorial: every chapter prints what it says") {
  int chapters = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string chapter = entry.path().stem();
    CAPTURE(chapter);
    if (chapter != trains) CHECK(check_chapter(chapter) == "");
    ++chapters;
  }
  CHECK(chapters >= 11);
}

TEST_CASE("tutorial: the chapter on Fashion-MNIST prints what it says") {
  if (sanitized()) SKIP("trains as a user does: for the plain build");
  const std::string missing = check_chapter(trains);
  if (!missing.empty()) SKIP(missing);
}

}  // namespace parabola::tutorial_test
