// max on CUDA: a thread or a warp to a result. The rules are in max.h.
#include "engine/ops/max.h"

#include <limits>

#include "engine/cuda/warp.cuh"
#include "engine/ops/groups.h"
#include "engine/ops/maximum.h"
#include "engine/ops/walk.cuh"

namespace parabola::max_cuda {
namespace {

// The largest value so far, and where it is, counted from a result's first value.
template <class T>
struct Largest {
  T value = -std::numeric_limits<T>::infinity();
  int where = 0;

  __device__ void take(T other, int place) {
    // Of equal ones the first: lanes do not come in the order of the places.
    if (exceeds(other, value) || (!exceeds(value, other) && place < where)) value = other, where = place;
  }
};

// `lanes` neighbouring threads share a result.
template <class T, int lanes>
__global__ void max_forward(DeviceWalk results, DeviceWalk terms, const T* x, T* y, int32_t* where) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  for (int64_t i = thread_index() / lanes; i < results.elements(); i += thread_count() / lanes) {
    const T* first = x + results.at(i).a;
    Largest<T> largest;
    for (int64_t k = lane; k < terms.elements(); k += lanes) {
      const int64_t place = terms.at(k).a;
      largest.take(first[place], static_cast<int>(place));
    }
    for (int mask = lanes / 2; mask > 0; mask /= 2)
      largest.take(shuffle_xor(largest.value, mask), shuffle_xor(largest.where, mask));
    if (lane == 0) y[i] = largest.value, where[i] = largest.where;
  }
}

// dx is zero, or what is added to.
template <class T>
__global__ void max_backward(DeviceWalk results, const int32_t* where, const T* dy, T* dx) {
  for (int64_t i = thread_index(); i < results.elements(); i += thread_count()) dx[results.at(i).a + where[i]] += dy[i];
}

template <class T, int lanes>
void find(const ForwardArgs& args, const Groups& groups) {
  launch(max_forward<T, lanes>, blocks_for(groups.results.elements(), block_size / lanes), block_size, 0, args.stream,
         DeviceWalk(groups.results), DeviceWalk(groups.terms), args.inputs[0].data<T>(), args.outputs[0].data<T>(),
         args.auxiliary[0].data<int32_t>());
}

void forward(const ForwardArgs& args) {
  dispatch_float(args.inputs[0].dtype, "max", [&]<class T>() {
    const Groups groups(args.inputs[0].shape, args.attributes.get<ReduceAttributes>().axes);
    // Neighbouring lanes read what lies side by side: the values of one result, or of neighbouring ones.
    if (groups.terms.step_a() == 1)
      find<T, warp_size>(args, groups);
    else
      find<T, 1>(args, groups);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_float(args.output_gradients[0].dtype, "max", [&]<class T>() {
    const TensorView& dx = args.input_gradients[0];
    const Groups groups(dx.shape, args.attributes.get<ReduceAttributes>().axes);
    if (!args.accumulates(0)) device_clear(args.stream, dx.data<T>(), dx.shape.elements());
    launch(max_backward<T>, blocks_for(groups.results.elements()), block_size, 0, args.stream,
           DeviceWalk(groups.results), args.auxiliary[0].data<int32_t>(), args.output_gradients[0].data<T>(),
           dx.data<T>());
  });
}

const CudaKernels registered(max_op, {.kernels = {forward, backward}});

}  // namespace
}  // namespace parabola::max_cuda
