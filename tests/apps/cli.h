// For the tests that run an app as a user does: what it wrote, and what a refusal looks like.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "tests/support/json.h"
#include "tests/support/test.h"

namespace parabola {

using Arguments = std::vector<std::string>;

Arguments operator+(Arguments left, const Arguments& right);

// The arguments with another value for one flag.
Arguments with(Arguments arguments, const std::string& flag, const std::string& value);

std::string read_file(const std::string& path);

// Of text with one JSON document a line.
std::vector<Json> records_in(const std::string& text);

// Runs an app with "--json -" and returns its last record, the result. The run must succeed.
Json result_of(const Arguments& arguments);

// The keys that INTERFACE.md promises.
void check_keys(const Json& record, const std::vector<std::string>& keys);

// One line "error: ..." that names what it is about, and nothing else on standard error.
void check_error(const ProgramResult& result, int code, const std::string& about);

// Names of all files below `folder`, relative to it.
std::set<std::string> files_in(const std::string& folder);

}  // namespace parabola
