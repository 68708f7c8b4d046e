// Several convolutions of one input with kernels of one shape, run as one with more outputs: patches are laid out once,
// and the products are wide. Output channels lie as [group][kernel][rank][channel of the group].
#pragma once
#include <span>

#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// stacked [groups][kernels][J][K / groups][depth] from kernels [J, K, R, S, C / groups] each.
template <class T>
void stack_kernels(std::span<const T* const> kernels, int64_t J, int64_t K, int64_t groups, int64_t depth, T* stacked);

// The way back for their gradients. Null pointers are skipped; where accumulate[i] is set, kernel i's is added to.
template <class T>
void unstack_gradients(const T* stacked, int64_t J, int64_t K, int64_t groups, int64_t depth,
                       std::span<T* const> gradients, std::span<const bool> accumulate);

}  // namespace parabola
