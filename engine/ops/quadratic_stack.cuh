// Weights of one shape copied side by side on CUDA, so that one product or convolution multiplies x with all of them,
// and the way back; quadratic_conv2d/stacked.h is the CPU's, with the order.
#pragma once
#include "engine/core/device.h"

namespace parabola {

constexpr int most_stacked = 3;

// `count` kernels [J, K, R, S, C / groups] each, or as many matrices [J, K, C] of one group.
struct KernelStack {
  int64_t count, J, K, groups, depth;
  int64_t rows() const { return count * J * K; }
  int64_t elements() const { return rows() * depth; }
};

// stacked [groups][kernels][J][K / groups][depth] from the kernels.
template <class T>
void device_stack(DeviceStream stream, const KernelStack& stack, const T* const (&kernels)[most_stacked], T* stacked);

// The kernels' gradients from those of the stack. Null pointers are skipped; where accumulate[i] is set, kernel i's is
// added to.
template <class T>
void device_unstack(DeviceStream stream, const KernelStack& stack, const T* stacked,
                    T* const (&gradients)[most_stacked], const bool (&accumulate)[most_stacked]);

}  // namespace parabola
