// depthwise_conv2d and quadratic_depthwise_conv2d on CUDA: both by the same kernels.
#include "engine/ops/depthwise/cuda.h"
#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/depthwise/rules.h"

namespace parabola::depthwise_cuda {
namespace {

using namespace depthwise;

struct Plain {
  static Problem problem(const auto& call) { return plain_problem(call.attributes, call.inputs); }
};
struct Quadratic {
  static Problem problem(const auto& call) { return quadratic_problem(call.attributes, call.inputs); }
};

template <class Op>
void forward(const ForwardArgs& args) {
  dispatch_float(args.inputs[input_x].dtype, "depthwise",
                 [&]<class T>() { device_forward<T>(Op::problem(args), args); });
}

template <class Op>
void backward(const BackwardArgs& args) {
  dispatch_float(args.inputs[input_x].dtype, "depthwise",
                 [&]<class T>() { device_backward<T>(Op::problem(args), args); });
}

template <class Op>
size_t backward_workspace(const Signature& s) {
  size_t bytes = 0;
  dispatch_float(s.dtype(), "depthwise",
                 [&]<class T>() { bytes = device_backward_workspace<T>(Op::problem(s), s.gradient_mask); });
  return bytes;
}

template <class Op>
constexpr CudaKernels::Entry entry = {.kernels = {forward<Op>, backward<Op>},
                                      .backward_workspace = backward_workspace<Op>};

const CudaKernels plain(depthwise_conv2d_op, entry<Plain>);
const CudaKernels quadratic(quadratic_depthwise_conv2d_op, entry<Quadratic>);

}  // namespace
}  // namespace parabola::depthwise_cuda
