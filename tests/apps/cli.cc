#include "tests/apps/cli.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace parabola {

Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Arguments with(Arguments arguments, const std::string& flag, const std::string& value) {
  const auto found = std::find(arguments.begin(), arguments.end(), flag);
  if (found == arguments.end()) return arguments + Arguments{flag, value};
  found[1] = value;
  return arguments;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<Json> records_in(const std::string& text) {
  std::vector<Json> records;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) records.emplace_back(line);
  return records;
}

Json result_of(const Arguments& arguments) {
  const ProgramResult run = run_program(arguments + Arguments{"--json", "-"});
  REQUIRE_MESSAGE(run.code == 0, run.err);
  const std::vector<Json> records = records_in(run.out);
  REQUIRE_FALSE(records.empty());
  CHECK(records.back().at("event") == "result");
  return records.back();
}

void check_keys(const Json& record, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) CHECK_MESSAGE(record.contains(key), key);
}

void check_error(const ProgramResult& result, int code, const std::string& about) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.starts_with("error: "));
  CHECK(result.err.find(about) != std::string::npos);
}

std::set<std::string> files_in(const std::string& folder) {
  std::set<std::string> files;
  if (std::filesystem::exists(folder))
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.insert(std::filesystem::relative(entry.path(), folder).generic_string());
  return files;
}

}  // namespace parabola
