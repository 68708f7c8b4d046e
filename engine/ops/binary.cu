// add, subtract, multiply and divide on CUDA; what they compute is said in binary.h.
#include "engine/ops/binary.h"

#include "engine/ops/reduction.cuh"

namespace parabola::binary_cuda {
namespace {

struct Add {
  static constexpr const char* name = "add";
  template <class Real>
  __device__ Real operator()(Real a, Real b) const {
    return a + b;
  }
};
struct Subtract {
  static constexpr const char* name = "subtract";
  template <class Real>
  __device__ Real operator()(Real a, Real b) const {
    return a - b;
  }
};
struct Multiply {
  static constexpr const char* name = "multiply";
  template <class Real>
  __device__ Real operator()(Real a, Real b) const {
    return a * b;
  }
};
struct Divide {
  static constexpr const char* name = "divide";
  template <class Real>
  __device__ Real operator()(Real a, Real b) const {
    return a / b;
  }
};

template <class Kind, class T>
__global__ void binary_forward(DeviceWalk walk, const T* a, const T* b, T* y) {
  for (int64_t i = thread_index(); i < walk.elements(); i += thread_count()) {
    const auto [at_a, at_b] = walk.at(i);
    y[i] = T(Kind()(Compute<T>(a[at_a]), Compute<T>(b[at_b])));
  }
}

// What element i of dy adds to an operand's gradient: itself, or less itself,
template <class T>
struct SignedGradient {
  const T* dy;
  Compute<T> sign;
  __device__ Compute<T> operator()(int64_t i) const { return sign * dy[i]; }
};
// or itself times, or divided by, the other operand, which is repeated to dy's shape,
template <class Kind, class T>
struct ScaledGradient {
  const T *dy, *other;
  DeviceWalk walk;
  __device__ Compute<T> operator()(int64_t i) const {
    return Kind()(Compute<T>(dy[i]), Compute<T>(other[walk.at(i).b]));
  }
};
// or, for a divisor, -dy a / b^2.
template <class T>
struct DivisorGradient {
  const T *dy, *a, *b;
  DeviceWalk walk;
  __device__ Compute<T> operator()(int64_t i) const {
    const auto [at_a, at_b] = walk.at(i);
    const Compute<T> divisor = b[at_b];
    return -Compute<T>(dy[i]) * (Compute<T>(a[at_a]) / divisor) / divisor;
  }
};

// Where an operand's gradient goes.
template <class T>
struct OperandGradient {
  T* d;
  bool accumulate;
  __device__ void set(int64_t i, double sum) const {
    d[i] = T(accumulate ? d[i] + static_cast<Compute<T>>(sum) : static_cast<Compute<T>>(sum));
  }
};

template <class Term, class T>
__global__ void binary_gradient(Term term, OperandGradient<T> gradient, int64_t count) {
  for (int64_t i = thread_index(); i < count; i += thread_count()) gradient.set(i, term(i));
}

template <class Kind>
void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, Kind::name, [&]<class T>() {
    const TensorView &a = args.inputs[0], &b = args.inputs[1], &y = args.outputs[0];
    const Walk walk(y.shape, broadcast_strides(a.shape, y.shape), broadcast_strides(b.shape, y.shape));
    launch(binary_forward<Kind, T>, blocks_for(walk.elements()), block_size, 0, args.stream, DeviceWalk(walk),
           a.data<T>(), b.data<T>(), y.data<T>());
  });
}

template <class T, class Term>
void operand_gradient(const BackwardArgs& args, int operand, const Term& term) {
  const Shape &shape = args.input_gradients[operand].shape, &dy = args.output_gradients[0].shape;
  const OperandGradient<T> gradient{args.input_gradients[operand].data<T>(), args.accumulates(operand)};
  if (shape.elements() != dy.elements())
    return DeviceReduction(dy, shape).run<T>(args.stream, args.workspace, term, gradient);
  launch(binary_gradient<Term, T>, blocks_for(dy.elements()), block_size, 0, args.stream, term, gradient,
         dy.elements());
}

template <class Kind>
void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, Kind::name, [&]<class T>() {
    const TensorView& dy = args.output_gradients[0];
    for (const int operand : {1, 0}) {  // the first one's may lie where dy does
      if (!args.wants(operand)) continue;
      if constexpr (std::is_same_v<Kind, Multiply> || std::is_same_v<Kind, Divide>) {
        const TensorView& other = args.inputs[1 - operand];
        if constexpr (std::is_same_v<Kind, Divide>) {
          if (operand == 1) {
            const TensorView &a = args.inputs[0], &b = args.inputs[1];
            const Walk walk(dy.shape, broadcast_strides(a.shape, dy.shape), broadcast_strides(b.shape, dy.shape));
            const DivisorGradient<T> term{dy.data<T>(), a.data<T>(), b.data<T>(), DeviceWalk(walk)};
            operand_gradient<T>(args, operand, term);
            continue;
          }
        }
        const Walk walk(dy.shape, strides_of(dy.shape), broadcast_strides(other.shape, dy.shape));
        operand_gradient<T>(args, operand, ScaledGradient<Kind, T>{dy.data<T>(), other.data<T>(), DeviceWalk(walk)});
      } else {
        const bool negative = std::is_same_v<Kind, Subtract> && operand == 1;
        operand_gradient<T>(args, operand, SignedGradient<T>{dy.data<T>(), Compute<T>(negative ? -1 : 1)});
      }
    }
  });
}

template <class Kind>
size_t backward_workspace(const Signature& s) {
  const Shape dy = broadcast(s.shape(0), s.shape(1), Kind::name);
  size_t bytes = 0;
  for (const int operand : {0, 1})
    if (s.wants_gradient(operand) && s.shape(operand).elements() != dy.elements())
      bytes = std::max(bytes, DeviceReduction(dy, s.shape(operand)).workspace(s.dtype()));
  return bytes;
}

template <class Kind>
CudaKernels::Entry entry() {
  return {
      .kernels = {forward<Kind>, backward<Kind>}, .backward_workspace = backward_workspace<Kind>, .half_types = true};
}

const CudaKernels add(add_op, entry<Add>()), subtract(subtract_op, entry<Subtract>()),
    multiply(multiply_op, entry<Multiply>()), divide(divide_op, entry<Divide>());

}  // namespace
}  // namespace parabola::binary_cuda
