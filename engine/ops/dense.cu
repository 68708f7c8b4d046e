// linear and matmul on CUDA: cuBLAS's products.
#include "engine/ops/dense.h"

#include "engine/ops/affine.cuh"
#include "engine/ops/linear.h"
#include "engine/ops/matmul.h"

namespace parabola::dense_cuda {
namespace {

template <class T>
void forward(const DenseOp& op, const ForwardArgs& args) {
  const auto [rows, inputs, outputs] = op.sizes(args.inputs[0].shape, args.inputs[1].shape);
  device_affine<T>(args.stream, rows, outputs, inputs, {args.inputs[0].data<T>(), inputs}, op.weight<T>(args.inputs[1]),
                   args.inputs.size() > 2 ? args.inputs[2].data<T>() : nullptr, args.outputs[0].data<T>());
}

template <class T>
void backward(const DenseOp& op, const BackwardArgs& args) {
  const auto [rows, inputs, outputs] = op.sizes(args.inputs[0].shape, args.inputs[1].shape);
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  if (args.wants(0))
    device_gemm(args.stream, rows, inputs, outputs, {dy, outputs}, op.weight<T>(args.inputs[1], true),
                args.input_gradients[0].data<T>(), inputs, args.accumulates(0));
  if (args.wants(1) && op.transposed)
    device_gemm(args.stream, outputs, inputs, rows, {dy, outputs, true}, {x, inputs}, args.input_gradients[1].data<T>(),
                inputs, args.accumulates(1));
  if (args.wants(1) && !op.transposed)
    device_gemm(args.stream, inputs, outputs, rows, {x, inputs, true}, {dy, outputs}, args.input_gradients[1].data<T>(),
                outputs, args.accumulates(1));
  if (args.input_gradients.size() > 2 && args.wants(2))
    device_bias_gradient(args.stream, dy, rows, outputs, args.input_gradients[2].data<T>(), args.accumulates(2),
                         args.workspace);
}

size_t backward_workspace(const DenseOp& op, const Signature& s) {
  if (!s.wants_gradient(2)) return 0;
  const DenseSizes sizes = op.sizes(s.shape(0), s.shape(1));
  size_t bytes = 0;
  dispatch_any_float(s.dtype(), op.name,
                     [&]<class T>() { bytes = device_bias_gradient_workspace<T>(sizes.rows, sizes.outputs); });
  return bytes;
}

void dispatch_forward(const DenseOp& op, const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, op.name, [&]<class T>() { forward<T>(op, args); });
}

void dispatch_backward(const DenseOp& op, const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, op.name, [&]<class T>() { backward<T>(op, args); });
}

const CudaKernels registered_linear(
    linear_op, {.kernels = {[](const ForwardArgs& args) { dispatch_forward(linear_dense, args); },
                            [](const BackwardArgs& args) { dispatch_backward(linear_dense, args); }},
                .backward_workspace = [](const Signature& s) { return backward_workspace(linear_dense, s); },
                .half_types = true});

const CudaKernels registered_matmul(
    matmul_op, {.kernels = {[](const ForwardArgs& args) { dispatch_forward(matmul_dense, args); },
                            [](const BackwardArgs& args) { dispatch_backward(matmul_dense, args); }},
                .backward_workspace = [](const Signature& s) { return backward_workspace(matmul_dense, s); },
                .half_types = true});

}  // namespace
}  // namespace parabola::dense_cuda
