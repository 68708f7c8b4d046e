// What bench's two jobs share: timing of steps, and what this machine can do at most.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/memory.h"
#include "engine/tape/executor.h"

namespace parabola {

struct Measurement {
  std::vector<double> seconds;  // of each timed step
  size_t peak_bytes = 0, saved_bytes = 0;
  // Physical memory that the timed steps held at most beyond what the process held before the first step and what the
  // account says has come to stay since (gradients, the optimizer's state). Absent where the system does not tell.
  std::optional<size_t> resident_bytes;
  double minor_faults = 0;  // of a timed step, on average: fresh pages that it touched
  WorkCounters work;        // of one step
  double median() const;
  double least() const;
};

// Repeats `step` for at least 5 times and `least_seconds`, after two runs that warm up. It runs one step on `device`
// and returns the activation bytes that were alive when its forward pass had ended. Before each comes `prepare`, whose
// time and work do not count.
Measurement measure(
    Device device, double least_seconds, const std::function<size_t()>& step,
    const std::function<void()>& prepare = [] {});

// The roofline of a device, measured: the rate of its multiply-adds (on the CPU by a loop that stays in registers, on
// CUDA by the largest product, in the precision that is allowed), and that of a copy, bytes read and written both
// counted.
struct Ceilings {
  double flops_per_second, bytes_per_second;
};
Ceilings measure_ceilings(Device device);
std::string describe(const Ceilings& most);  // "187.3 GFLOP/s of multiply-adds, 17.9 GB/s of a copy"

}  // namespace parabola
