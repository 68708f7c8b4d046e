// dropout and drop_path on CUDA: the CPU's masks, bit for bit. Draw i is word i mod 4 of block i / 4.
#include "engine/ops/dropout.h"

#include <algorithm>

#include "engine/cuda/warp.cuh"

namespace parabola::dropout_cuda {
namespace {

// to = mask o from, or +=, for values in forward and for gradients in backward.
template <class T>
struct Masked {
  const T* from;
  T* to;
  Compute<T> scale;
  bool accumulate;
  __device__ void set(int64_t i, bool keep) const {
    const Compute<T> value = keep ? scale * from[i] : Compute<T>(0);
    to[i] = T(accumulate ? to[i] + value : value);
  }
};

// What the draws come from: the node's stream and item; seed and step change from step to step.
struct Draws {
  Stream stream;
  uint32_t item;
  const StepRecord* step;
  float p;
  __device__ std::array<uint32_t, 4> block(int64_t i) const {
    return philox({step->seed, stream, step->step, item}, static_cast<uint32_t>(i));
  }
  __device__ bool keeps(uint32_t word) const { return unit_float(word) >= p; }
};

// A draw an element. A warp takes 128 elements: every lane draws a block of four, and gets those of others by votes, so
// that lanes read and write neighbours.
template <class T>
__global__ void dropout_mask(Draws draws, Masked<T> masked, int64_t count) {
  constexpr int words = 4;
  const int lane = lane_index();
  for (int64_t group = thread_index() / warp_size; group * words * warp_size < count;
       group += thread_count() / warp_size) {
    const std::array<uint32_t, words> mine = draws.block(group * warp_size + lane);
    unsigned kept = 0;  // bit i: what lane i has drawn for its word lane % 4
    for (int word = 0; word < words; ++word) {
      const unsigned votes = ballot(draws.keeps(mine[word]));
      if (word == lane % words) kept = votes;
    }
    for (int turn = 0; turn < words; ++turn) {
      const int from_group = turn * warp_size + lane;
      const int64_t i = group * words * warp_size + from_group;
      if (i < count) masked.set(i, kept >> from_group / words & 1);
    }
  }
}

// A draw a sample of `unit` elements.
template <class T>
__global__ void drop_path_mask(Draws draws, Masked<T> masked, int64_t samples, int64_t unit) {
  for (int64_t sample = blockIdx.y; sample < samples; sample += gridDim.y) {
    const bool keep = draws.keeps(draws.block(sample / 4)[sample % 4]);
    for (int64_t i = thread_index(); i < unit; i += thread_count()) masked.set(sample * unit + i, keep);
  }
}

template <bool per_sample, class Args>
void mask(const Args& args, const TensorView& from, const TensorView& to, bool accumulate) {
  const double p = args.attributes.template get<DropAttributes>().p;
  const Draws draws{args.random.stream, args.random.item, args.step, static_cast<float>(p)};
  dispatch_any_float(from.dtype, per_sample ? "drop_path" : "dropout", [&]<class T>() {
    const int64_t count = from.shape.elements();
    const Masked<T> masked{from.data<T>(), to.data<T>(), static_cast<Compute<T>>(1 / (1 - p)), accumulate};
    if constexpr (per_sample) {
      const int64_t samples = from.shape[0], unit = count / std::max<int64_t>(1, samples);
      // 16 elements a thread, since each draws the sample's number for itself.
      const dim3 grid(blocks_for(unit, 16 * block_size).x, blocks_for(samples, 1).x);
      launch(drop_path_mask<T>, grid, block_size, 0, args.stream, draws, masked, samples, unit);
    } else {
      launch(dropout_mask<T>, blocks_for(count, 4 * block_size), block_size, 0, args.stream, draws, masked, count);
    }
  });
}

template <bool per_sample>
CudaKernels::Entry entry() {
  return {.kernels = {[](const ForwardArgs& a) { mask<per_sample>(a, a.inputs[0], a.outputs[0], false); },
                      [](const BackwardArgs& a) {
                        mask<per_sample>(a, a.output_gradients[0], a.input_gradients[0], a.accumulates(0));
                      }},
          .half_types = true};
}

const CudaKernels dropout(dropout_op, entry<false>()), drop_path(drop_path_op, entry<true>());

}  // namespace
}  // namespace parabola::dropout_cuda
