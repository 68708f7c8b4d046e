// Elementwise functions of one tensor on CUDA; what they compute is said in unary.h and unary_functions.h.
#include "engine/ops/unary.h"

#include "engine/cuda/launch.cuh"
#include "engine/ops/unary_functions.h"

namespace parabola::unary_cuda {
namespace {

using unary::Reads;

template <class F, class T>
__global__ void unary_forward(F f, const T* x, T* y, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) y[i] = T(f.value(Compute<T>(x[i])));
}

// read: x, y or, for a function whose backward reads neither, null.
template <class F, class T>
__global__ void unary_backward(F f, const T* read, const T* dy, T* dx, bool accumulate, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    const Compute<T> value = F::reads == Reads::nothing ? Compute<T>(0) : Compute<T>(read[i]);
    const Compute<T> d = f.gradient(value, Compute<T>(dy[i]));
    dx[i] = T(accumulate ? dx[i] + d : d);
  }
}

template <class F>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, F::name, [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    launch(unary_forward<F, T>, blocks_for(count), block_size, 0, args.stream, unary::function_of<F>(args.attributes),
           args.inputs[0].data<T>(), args.outputs[0].data<T>(), count);
  });
}

template <class F>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, F::name, [&]<class T>() {
    const int64_t count = args.inputs[0].shape.elements();
    const TensorView& read = F::reads == Reads::y ? args.outputs[0] : args.inputs[0];
    launch(unary_backward<F, T>, blocks_for(count), block_size, 0, args.stream, unary::function_of<F>(args.attributes),
           read.data<T>(), args.output_gradients[0].data<T>(), args.input_gradients[0].data<T>(), args.accumulates(0),
           count);
  });
}

template <class F>
CudaKernels::Entry entry() {
  return {.kernels = {forward<F>, backward<F>}, .half_types = true};
}

const CudaKernels registered[] = {
    {neg_op, entry<unary::Neg>()},     {exp_op, entry<unary::Exp>()},       {log_op, entry<unary::Log>()},
    {sqrt_op, entry<unary::Sqrt>()},   {square_op, entry<unary::Square>()}, {abs_op, entry<unary::Abs>()},
    {clamp_op, entry<unary::Clamp>()}, {relu6_op, entry<unary::Relu6>()},   {sigmoid_op, entry<unary::Sigmoid>()},
    {tanh_op, entry<unary::Tanh>()},   {silu_op, entry<unary::Silu>()},     {gelu_tanh_op, entry<unary::GeluTanh>()},
};

}  // namespace
}  // namespace parabola::unary_cuda
