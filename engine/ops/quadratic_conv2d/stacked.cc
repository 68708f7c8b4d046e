#include "engine/ops/quadratic_conv2d/stacked.h"

#include <algorithm>

#include "engine/core/thread_pool.h"

namespace parabola {
namespace {

// Calls copy(kernel, its row, stacked row) for every output channel, a row being its `depth` weights.
template <class Copy>
void each_row(int64_t kernels, int64_t J, int64_t K, int64_t groups, Copy&& copy) {
  const int64_t outputs = K / groups;
  parallel_for(kernels * J * K, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t channel = row % outputs, rank = row / outputs % J, kernel = row / outputs / J % kernels;
      const int64_t group = row / outputs / J / kernels;
      copy(static_cast<size_t>(kernel), rank * K + group * outputs + channel, row);
    }
  });
}

}  // namespace

template <class T>
void stack_kernels(std::span<const T* const> kernels, int64_t J, int64_t K, int64_t groups, int64_t depth, T* stacked) {
  each_row(static_cast<int64_t>(kernels.size()), J, K, groups, [&](size_t kernel, int64_t from, int64_t to) {
    std::copy_n(kernels[kernel] + from * depth, depth, stacked + to * depth);
  });
}

template <class T>
void unstack_gradients(const T* stacked, int64_t J, int64_t K, int64_t groups, int64_t depth,
                       std::span<T* const> gradients, std::span<const bool> accumulate) {
  each_row(static_cast<int64_t>(gradients.size()), J, K, groups, [&](size_t kernel, int64_t to, int64_t from) {
    if (!gradients[kernel]) return;
    T* out = gradients[kernel] + to * depth;
    const T* in = stacked + from * depth;
    for (int64_t i = 0; i < depth; ++i) out[i] = accumulate[kernel] ? out[i] + in[i] : in[i];
  });
}

template void stack_kernels(std::span<const float* const>, int64_t, int64_t, int64_t, int64_t, float*);
template void stack_kernels(std::span<const double* const>, int64_t, int64_t, int64_t, int64_t, double*);
template void unstack_gradients(const float*, int64_t, int64_t, int64_t, int64_t, std::span<float* const>,
                                std::span<const bool>);
template void unstack_gradients(const double*, int64_t, int64_t, int64_t, int64_t, std::span<double* const>,
                                std::span<const bool>);

}  // namespace parabola
