// upsample on CUDA; what it computes is said in upsample.h.
#include "engine/ops/upsample.h"

#include "engine/ops/image_map.cuh"

namespace parabola::upsample_cuda {
namespace {

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "upsample", [&]<class T>() {
    device_map_image(args.stream, upsample_map(args.inputs[0].shape, args.attributes.get<UpsampleAttributes>()),
                     args.inputs[0].data<T>(), args.outputs[0].data<T>());
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "upsample", [&]<class T>() {
    device_map_image_backward(
        args.stream, upsample_map(args.inputs[0].shape, args.attributes.get<UpsampleAttributes>()),
        args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0));
  });
}

const CudaKernels registered(upsample_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::upsample_cuda
