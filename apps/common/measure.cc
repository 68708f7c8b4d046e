#include "apps/common/measure.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>

#include "apps/common/text.h"
#include "engine/blas/peak.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/linear.h"

namespace parabola {
namespace {

constexpr size_t least_steps = 5;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of the fastest of several runs.
double least_seconds_of(Device device, const std::function<void()>& body) {
  return measure(device, 0.2,
                 [&] {
                   body();
                   return size_t{0};
                 })
      .least();
}

double cpu_flops_per_second() {
  double flops = 0;
  const double seconds = least_seconds_of({}, [&] { flops = multiply_adds_in_registers(); });
  return flops / seconds;
}

// A square product: larger on a GPU, which needs more work to be busy.
double cuda_flops_per_second(Device device) {
  constexpr int64_t size = 8192;
  const Tensor x = Tensor::full({size, size}, 0.5, DType::f32, Category::inputs, device);
  const double seconds = least_seconds_of(device, [&] { linear(x, x); });
  return 2.0 * size * size * size / seconds;
}

// A line of /proc/self/status that counts kB, in bytes; absent on other systems than Linux.
std::optional<size_t> status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (size_t kib = 0; word == name + ":" && status >> kib) return kib * 1_KiB;
  return {};
}

// From now on VmHWM is the most that the process holds after this call. False where that cannot be had.
bool reset_resident_peak() { return static_cast<bool>(std::ofstream("/proc/self/clear_refs") << 5 << std::flush); }

int64_t minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

size_t lasting_bytes(const Memory& memory) {
  size_t bytes = 0;
  for (const Category category : {Category::parameters, Category::gradients, Category::optimizer, Category::inputs})
    bytes += memory.live_bytes(category);
  return bytes;
}

}  // namespace

double Measurement::median() const {
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double Measurement::least() const { return *std::ranges::min_element(seconds); }

Measurement measure(Device device, double least_seconds, const std::function<size_t()>& step,
                    const std::function<void()>& prepare) {
  Measurement result;
  // Before the first step and written to, so that it takes no block of the heap that steps use again and again, and no
  // fresh page of its own counts as a step's.
  result.seconds.resize(1 << 16);
  result.seconds.clear();
  Memory& memory = Memory::of(device);
  const std::optional<size_t> resident_before = status_bytes("VmRSS");
  const size_t lasting_before = lasting_bytes(memory);
  // After two steps the arena has its pages, the heap its blocks, and the threads are awake. What this function itself
  // takes from the heap comes between them, not between a step and the next one that is measured.
  prepare(), step();
  const bool resident_known = resident_before && reset_resident_peak();
  prepare(), step();
  const size_t before = memory.activation_bytes();
  const int64_t faults_before = minor_faults();
  const double begun = now();
  while (result.seconds.size() < least_steps || now() - begun < least_seconds) {
    prepare();
    memory.reset_peak();
    Executor::instance().work = {};
    synchronize(device);
    const double start = now();
    result.saved_bytes = step() - before;
    synchronize(device);
    result.seconds.push_back(now() - start);
    result.work = Executor::instance().work;
    result.peak_bytes = memory.peak_activation_bytes() - before;
  }
  result.minor_faults =
      static_cast<double>(minor_faults() - faults_before) / static_cast<double>(result.seconds.size());
  if (const std::optional<size_t> most = status_bytes("VmHWM"); resident_known && most) {
    const size_t others = *resident_before + lasting_bytes(memory) - lasting_before;
    result.resident_bytes = *most - std::min(*most, others);
  }
  return result;
}

Ceilings measure_ceilings(Device device) {
  // Far more than the caches hold.
  const Shape shape{device.kind == DeviceKind::cpu ? 1 << 26 : 1 << 28};
  const Tensor from = Tensor::full(shape, 0, DType::f32, Category::inputs, device),
               to = Tensor::full(shape, 0, DType::f32, Category::inputs, device);
  const double seconds = least_seconds_of(device, [&] {
    if (device.kind != DeviceKind::cpu) return to.copy_from(from);
    parallel_for(shape.elements(), 1 << 18, [&](int64_t begin, int64_t end) {
      std::copy_n(from.data<float>() + begin, end - begin, to.data<float>() + begin);
    });
  });
  return {device.kind == DeviceKind::cpu ? cpu_flops_per_second() : cuda_flops_per_second(device),
          2.0 * static_cast<double>(from.bytes()) / seconds};
}

std::string describe(const Ceilings& most) {
  return concat(format_fixed(most.flops_per_second / 1e9, 1), " GFLOP/s of multiply-adds, ",
                format_fixed(most.bytes_per_second / 1e9, 1), " GB/s of a copy");
}

}  // namespace parabola
