// avg_pool2d and adaptive_avg_pool2d on CUDA; what they compute is said in avg_pool2d.h.
#include "engine/ops/pooling/avg_pool2d.h"

#include "engine/ops/image_map.cuh"

namespace parabola::avg_pool2d_cuda {
namespace {

template <class Own>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "avg_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("avg_pool2d", args.inputs[0].shape, args.attributes.get<Own>());
    device_map_image(args.stream, g, args.inputs[0].data<T>(), args.outputs[0].data<T>());
  });
}

template <class Own>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "avg_pool2d", [&]<class T>() {
    const PoolGeometry g = pool_geometry("avg_pool2d", args.inputs[0].shape, args.attributes.get<Own>());
    device_map_image_backward(args.stream, g, args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(),
                              args.accumulates(0));
  });
}

template <class Own>
constexpr CudaKernels::Entry entry{.kernels = {forward<Own>, backward<Own>}, .half_types = true};

const CudaKernels average(avg_pool2d_op, entry<PoolAttributes>);
const CudaKernels adaptive(adaptive_avg_pool2d_op, entry<AdaptivePoolAttributes>);

}  // namespace
}  // namespace parabola::avg_pool2d_cuda
