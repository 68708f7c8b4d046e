#include "engine/blas/peak.h"

#include <vector>

#include "engine/blas/vector.h"
#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

// Independent sums: enough to hide the latency of a multiply-add (4 cycles, two a cycle), few enough for 16 registers.
constexpr int sums_at_once = 12;
constexpr int64_t rounds = 1 << 20;

float chains_of_multiply_adds(float start) {
  Vector<float> sums[sums_at_once];
  for (int i = 0; i < sums_at_once; ++i) sums[i] = Vector<float>{} + (start + static_cast<float>(i));
  const Vector<float> factor = Vector<float>{} + 0.5f, term = Vector<float>{} + start;
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll sums_at_once
    for (int i = 0; i < sums_at_once; ++i) sums[i] = multiply_add<float>(sums[i], factor, term);
  }
  float total = 0;
  for (const Vector<float>& sum : sums) total += sum[0];
  return total;
}

}  // namespace

double multiply_adds_in_registers() {
  const int tasks = thread_pool().threads();
  static std::vector<float> results;  // kept, so that the loops are not optimised away
  results.resize(static_cast<size_t>(tasks));
  thread_pool().run(tasks, [&](int64_t task, int) {
    results[static_cast<size_t>(task)] = chains_of_multiply_adds(static_cast<float>(task));
  });
  return 2.0 * static_cast<double>(rounds * sums_at_once * vector_lanes<float> * tasks);
}

}  // namespace parabola
