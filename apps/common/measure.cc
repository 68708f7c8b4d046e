#include "apps/common/measure.h"

#include <algorithm>
#include <chrono>

#include "engine/blas/vector.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/linear.h"

namespace parabola {
namespace {

constexpr int warm_up_steps = 2;  // the arena has its pages and the threads are awake after these
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

// Independent sums, enough of them to hide the latency of a multiply-add (4 cycles, two a cycle) and few enough for
// 16 registers.
constexpr int sums_at_once = 12;
constexpr int64_t rounds = 1 << 20;

[[gnu::noinline]] float multiply_adds_in_registers(float start) {
  Vector<float> sums[sums_at_once];
  for (int i = 0; i < sums_at_once; ++i) sums[i] = Vector<float>{} + (start + static_cast<float>(i));
  const Vector<float> factor = Vector<float>{} + 0.5f, term = Vector<float>{} + start;
  for (int64_t round = 0; round < rounds; ++round)
    for (Vector<float>& sum : sums) sum = multiply_add<float>(sum, factor, term);
  float total = 0;
  for (const Vector<float>& sum : sums) total += sum[0];
  return total;
}

double cpu_flops_per_second() {
  const int tasks = thread_pool().threads();
  std::vector<float> results(static_cast<size_t>(tasks));  // kept, so that the loops are not optimised away
  const double seconds = least_seconds_of({}, [&] {
    thread_pool().run(tasks, [&](int64_t task, int) {
      results[static_cast<size_t>(task)] = multiply_adds_in_registers(static_cast<float>(task));
    });
  });
  return 2.0 * static_cast<double>(rounds * sums_at_once * vector_lanes<float> * tasks) / seconds;
}

// A square product: larger on a GPU, which needs more work to be busy.
double cuda_flops_per_second(Device device) {
  constexpr int64_t size = 8192;
  const Tensor x = Tensor::full({size, size}, 0.5, DType::f32, Category::inputs, device);
  const double seconds = least_seconds_of(device, [&] { linear(x, x); });
  return 2.0 * size * size * size / seconds;
}

}  // namespace

double Measurement::median() const {
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double Measurement::least() const { return *std::ranges::min_element(seconds); }

Measurement measure(Device device, double least_seconds, const std::function<size_t()>& step) {
  for (int i = 0; i < warm_up_steps; ++i) step();
  Measurement result;
  Memory& memory = Memory::of(device);
  const size_t before = memory.activation_bytes();
  const double begun = now();
  while (result.seconds.size() < least_steps || now() - begun < least_seconds) {
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

}  // namespace parabola
