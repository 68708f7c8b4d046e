// What every test file includes: doctest, SKIP, the data at hand, scratch folders, and running the apps.
// Tests run from the repository root.
#pragma once
#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/dtype.h"

// Leaves the current test case and has it counted as skipped, with the reason printed; only in the body of a TEST_CASE
// or SUBCASE, since it returns. A case that failed an assertion before stays failed.
#define SKIP(reason)                    \
  do {                                  \
    ::parabola::skip_test_case(reason); \
    return;                             \
  } while (false)

namespace parabola {

void skip_test_case(std::string_view reason);  // what SKIP calls: notes the reason, does not return from the case
const std::optional<std::string>& skipped_because();  // the running case's reason, empty unless SKIP was called
void forget_skip();                                   // called by the listener of main.cc before each case

// True in `make test-long` (PARABOLA_LONG=1): more cases of a property, all images instead of 1,000.
bool long_tests();

// The device that ops and models are tested on: PARABOLA_TEST_DEVICE (cpu, cuda, cuda:1), by default the CPU.
// UsageError for another word.
Device test_device();

// Has `check` called when all cases have run, before the last line is printed; `complete` says that none was left out
// by an option. It may print lines of its own, and returns whether all is well.
void at_the_end(bool (*check)(bool complete));

// Whether an option has left out a case of a file whose path holds `folder`, of those that would have run by now.
bool left_out(const std::string& folder);

// Folder of the development data: PARABOLA_DATA, by default ../shared/data. Empty where there is none.
std::string data_folder();

// Folder with CIFAR-10 in the official binary format, unpacked once into build/cache/cifar10 from the development data
// (about 6 s and 184 MB; safe when two processes do it at the same time). Empty where that is not possible.
//   if (cifar10_folder().empty()) SKIP(missing_data());
std::string cifar10_folder();

// Why data_folder() or cifar10_folder() returned nothing when last called, for SKIP.
std::string missing_data();

// The build folder that this binary belongs to: build, build-address-undefined, ...
std::string build_folder();

// Whether this build has sanitizers, which make it some ten times as slow: what trains as a user trains does so on
// fewer images there.
bool sanitized();

// A new, empty folder below the build folder, with a name of its own; removed with all it holds when the process ends.
std::string scratch_folder();

struct ProgramResult {
  int code = 0;     // exit code; 128 + the signal's number where a signal ended the program, as in a shell
  std::string out;  // what it wrote to standard output
  std::string err;  // and to standard error
};

struct ProgramOptions {
  std::string directory = {};                   // where it runs; empty: here
  std::vector<std::string> environment = {};    // "NAME=value", added to this process's own
  std::optional<int64_t> file_size_limit = {};  // bytes that one written file may have (RLIMIT_FSIZE): a full disk
};

// Runs an app of the same build and waits for it: run_program({"inspect", "model.safetensors"}). The first word is the
// app's name in bin/, or a path where it has a slash. Error where it cannot be started.
ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

}  // namespace parabola
