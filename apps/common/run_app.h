// What every app's main does: flags in, exit code out.
#pragma once
#include <functional>

#include "apps/common/flags.h"

namespace parabola {

// Runs `body` and turns what it throws into INTERFACE.md's exit codes: 0 done; 2 the user's input is wrong (UsageError,
// FormatError, ShapeError, DTypeError, DeviceError); 1 anything else, and standard output that could not be written.
// Either way the reason is one line "error: ..." on standard error. Signals that would kill the process where a write
// should fail (closed pipe, file-size limit) are ignored, so that they arrive as errors.
int run_app(const std::function<void()>& body);

// The same for an app of INTERFACE.md: body gets the parsed flags; --help prints the usage.
//     int main(int argc, char** argv) { return parabola::run_app(parabola::App::train, argc, argv, train); }
int run_app(App app, int argc, const char* const* argv, const std::function<void(const Flags&)>& body);

}  // namespace parabola
