// Kernels that use what the launch layer has, and some that use it wrongly; see grid_test.cc.
#pragma once
#include <cstdint>

#include "engine/core/device.h"
#include "engine/core/op.h"

namespace parabola::test {

enum class Mistake : uint8_t {
  none,
  past_the_end,
  past_shared_memory,
  no_barrier,
  two_barriers,
  early_return,
  one_lane
};

// sum[b] = the sum of x's block b of `threads` elements, by a tree in shared memory; or with a planted mistake.
void tree_sum(DeviceStream stream, const float* x, float* sums, int blocks, int threads, Mistake mistake);

// out[12 i + k], for each thread i: what k-th function of warp.cuh gives it, of x[i].
constexpr int warp_results = 12;
void warp_functions(DeviceStream stream, const double* x, double* out, int threads);

// out[linear number of the thread in the grid] = 1 + that number, computed from three-dimensional indices.
void number_threads(DeviceStream stream, int* out, int blocks[3], int threads[3]);

// What shared memory holds at first.
void first_shared(DeviceStream stream, float* out);

// `rounds` barriers by blocks of 1024 threads; every thread adds up what its neighbour wrote.
void many_barriers(DeviceStream stream, float* out, int rounds);

// y = 2 x with kernels that are wrong by an index, each in one direction only.
extern const OpDef wrong_forward_op, wrong_backward_op;
// y = {seed, step, learning rate, update} of the step record, for whatever x.
extern const OpDef read_step_op;

}  // namespace parabola::test
