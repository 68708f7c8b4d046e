#include "apps/common/run_app.h"

#include <fcntl.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "engine/blas/precision.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

enum ExitCode { done = 0, program_failed = 1, input_wrong = 2 };

int report(ExitCode code, std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  std::cout.flush();
  std::fprintf(stderr, "error: %s\n", text.c_str());
  return code;
}

// A caller may have closed 0, 1 or 2. The next file to be opened would get that number, and what is meant for people
// would be written into it; /dev/null for reading keeps the number taken and lets such writes fail.
void occupy_standard_streams() {
  int file;
  while ((file = ::open("/dev/null", O_RDONLY)) >= 0 && file <= STDERR_FILENO) continue;
  if (file >= 0) ::close(file);
}

// Tensors have an arena; the small blocks of a step come from malloc's heap, which grows by a page now and then until
// all have found their places, and would give pages back to the system only to fetch them again. Pages touched here,
// and kept, spare the steps those faults.
void warm_heap() {
#ifdef __GLIBC__
  constexpr int block = 64 << 10, blocks = 64;  // below the size from which malloc maps memory of its own
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 2 * blocks * block);
  std::vector<std::unique_ptr<std::byte[]>> pages;
  for (int i = 0; i < blocks; ++i) pages.push_back(std::make_unique<std::byte[]>(block));  // zeroed: touched
#endif
}

}  // namespace

int run_app(const std::function<void()>& body) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  occupy_standard_streams();
  try {
    warm_heap();
    body();
  } catch (const UsageError& error) {
    return report(input_wrong, error.what());
  } catch (const FormatError& error) {
    return report(input_wrong, error.what());
  } catch (const ShapeError& error) {
    return report(input_wrong, error.what());
  } catch (const DTypeError& error) {
    return report(input_wrong, error.what());
  } catch (const DeviceError& error) {
    return report(input_wrong, error.what());
  } catch (const std::bad_alloc&) {
    return report(program_failed,
                  "memory: the machine has no more to give, expected enough; a smaller --batch needs less");
  } catch (const std::exception& error) {
    return report(program_failed, error.what());
  }
  std::cout.flush();
  if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return report(program_failed, "standard output: cannot be written, expected an open pipe or a disk with room");
  return done;
}

int run_app(App app, int argc, const char* const* argv, const std::function<void(const Flags&)>& body) {
  return run_app([&] {
    try {
      const Flags flags = parse_flags(app, argc, argv);
      if (flags.threads) set_threads(static_cast<int>(*flags.threads));
      allow_tf32(flags.dtype == "tf32");
      body(flags);
    } catch (const HelpRequest& help) {
      std::cout << help.text;
    }
  });
}

}  // namespace parabola
