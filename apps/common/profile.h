// Where a step's time goes: for bench --profile.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/common/measure.h"

namespace parabola {

// All calls of one op's kernel in a step.
struct KernelProfile {
  std::string kernel;  // "conv2d", "conv2d backward", "conv2d replay"
  int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
  // By the roofline: what the machine would take at its measured rates, for each call the longer of its multiply-adds
  // and of the bytes that it must move; and how much of that the multiply-adds are the longer one of.
  double least_seconds = 0, computing_seconds = 0;
};

struct Profile {
  Ceilings most;                       // the better of those measured before the steps and after
  std::vector<KernelProfile> kernels;  // the longest first
  double seconds = 0;                  // of the whole step
  double between_kernels() const;
};

// Runs `step` several times and takes the mean of each kernel's calls. Waiting for the device around every kernel makes
// the step on a GPU somewhat longer than it is.
Profile profile_step(Device device, const std::function<size_t()>& step);

// What the roofline says that holds the kernel up: "multiply-adds", "memory", or "-" where it has no work to speak of.
const char* bound_of(const KernelProfile& kernel);

std::string profile_table(const Profile& profile);
// A bar a kernel, on it what the roofline allows, as an SVG document.
std::string profile_svg(const std::string& title, const Profile& profile);

}  // namespace parabola
