#include "engine/ops/binary.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/reduction.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

enum class Kind : uint8_t { add, subtract, multiply };

template <Kind kind>
constexpr const char* name = kind == Kind::add        ? "add"
                             : kind == Kind::subtract ? "subtract"
                                                      : "multiply";

template <Kind kind, class T>
T combine(T a, T b) {
  return kind == Kind::add ? a + b : kind == Kind::subtract ? a - b : a * b;
}

// The axes of `out` along which an operand of shape `from` is repeated.
AxisMask repeated_axes(const Shape& from, const Shape& out) {
  AxisMask axes = 0;
  const Strides strides = broadcast_strides(from, out);
  for (int axis = 0; axis < out.rank(); ++axis) axes |= AxisMask{strides[axis] == 0} << axis;
  return axes;
}

template <Kind kind, class T>
void forward(const ForwardArgs& args) {
  const T *a = args.inputs[0].data<T>(), *b = args.inputs[1].data<T>();
  T* y = args.outputs[0].data<T>();
  const Shape& out = args.outputs[0].shape;
  const Walk walk(out, broadcast_strides(args.inputs[0].shape, out), broadcast_strides(args.inputs[1].shape, out));
  const int64_t step_a = walk.step_a(), step_b = walk.step_b();
  // Within a row an operand either runs along or stands still; three loops that vectorise.
  walk.each_row([=](int64_t i, int64_t at_a, int64_t at_b, int64_t count) {
    if (step_b == 0) {
      for (int64_t k = 0; k < count; ++k) y[i + k] = combine<kind>(a[at_a + k], b[at_b]);
    } else if (step_a == 0) {
      for (int64_t k = 0; k < count; ++k) y[i + k] = combine<kind>(a[at_a], b[at_b + k]);
    } else {
      for (int64_t k = 0; k < count; ++k) y[i + k] = combine<kind>(a[at_a + k], b[at_b + k]);
    }
  });
}

// to = dy * other, or += where `accumulate`; `other` repeated to dy's shape.
template <class T>
void multiply_gradient(const TensorView& dy, const TensorView& other, T* to, bool accumulate) {
  const T *g = dy.data<T>(), *factor = other.data<T>();
  const Walk walk(dy.shape, strides_of(dy.shape), broadcast_strides(other.shape, dy.shape));
  const int64_t step = walk.step_b();
  walk.each_row([=](int64_t i, int64_t, int64_t at, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      const T d = g[i + k] * factor[at + k * step];
      to[i + k] = accumulate ? to[i + k] + d : d;
    }
  });
}

// A term of a repeated operand's gradient: sign * g, or g * factor. One type for all kinds, since each one that a sum
// is compiled for costs seconds.
template <class T>
struct Term {
  const T *g, *factor;  // factor: null for sums and differences
  T sign;
  T operator()(int64_t i) const { return factor ? g[i] * factor[i] : sign * g[i]; }
};

template <class T>
void sum_gradient(const Reduction& reduction, T* workspace, const Term<T>& term, T* to, bool accumulate) {
  reduction.run<T>(workspace, term, [=](int64_t i, double sum) {
    to[i] = accumulate ? to[i] + static_cast<T>(sum) : static_cast<T>(sum);
  });
}

template <Kind kind, class T>
void operand_gradient(const BackwardArgs& args, int operand) {
  const TensorView &dy = args.output_gradients[0], &target = args.input_gradients[operand],
                   &other = args.inputs[1 - operand];
  const bool accumulate = args.accumulates(operand);
  const T sign = kind == Kind::subtract && operand == 1 ? T(-1) : T(1);
  const T *g = dy.data<T>(), *factor = other.data<T>();
  T* d = target.data<T>();
  if (target.shape == dy.shape) {
    if constexpr (kind == Kind::multiply) return multiply_gradient(dy, other, d, accumulate);
    parallel_for(dy.shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) d[i] = accumulate ? d[i] + sign * g[i] : sign * g[i];
    });
    return;
  }
  const Reduction reduction(dy.shape, repeated_axes(target.shape, dy.shape));
  T* workspace = reinterpret_cast<T*>(args.workspace);
  if (kind != Kind::multiply) {
    sum_gradient<T>(reduction, workspace, {g, nullptr, sign}, d, accumulate);
  } else if (other.shape == dy.shape) {
    sum_gradient<T>(reduction, workspace, {g, factor, 1}, d, accumulate);
  } else {  // both operands are repeated, each along axes of its own
    T* products = workspace + reduction.workspace<T>() / sizeof(T);
    multiply_gradient(dy, other, products, false);
    sum_gradient<T>(reduction, workspace, {products, nullptr, 1}, d, accumulate);
  }
}

template <Kind kind, class T>
void backward(const BackwardArgs& args) {
  for (int operand : {0, 1}) {
    if (args.wants(operand)) operand_gradient<kind, T>(args, operand);
  }
}

template <Kind kind>
Layout layout(const Signature& s) {
  require_one_dtype(name<kind>, s);
  const Shape out = broadcast(s.shape(0), s.shape(1), name<kind>);
  Layout result{.outputs = {{out, s.dtype()}}};
  dispatch_any_float(s.dtype(), name<kind>, [&]<class T>() {
    for (int operand : {0, 1}) {
      if (!s.wants_gradient(operand) || s.shape(operand) == out) continue;
      size_t bytes = Reduction(out, repeated_axes(s.shape(operand), out)).template workspace<T>();
      if (kind == Kind::multiply && s.shape(1 - operand) != out) bytes += result.outputs[0].bytes();
      result.backward_workspace = std::max(result.backward_workspace, bytes);
    }
  });
  return result;
}

template <Kind kind>
StepCost cost(const Signature& s) {
  const TensorSpec out{broadcast(s.shape(0), s.shape(1), name<kind>), s.dtype()};
  const double n = static_cast<double>(out.shape.elements()), bytes = static_cast<double>(out.bytes());
  const auto bytes_of = [&](int i) { return static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()); };
  StepCost result{{n, bytes_of(0) + bytes_of(1), bytes}, {}};
  for (int operand : {0, 1}) {
    if (!s.wants_gradient(operand)) continue;
    result.backward.flops += (kind == Kind::multiply ? n : 0) + (s.shape(operand) == out.shape ? 0 : n);
    result.backward.bytes_read += bytes + (kind == Kind::multiply ? bytes_of(1 - operand) : 0);
    result.backward.bytes_written += bytes_of(operand);
  }
  return result;
}

template <Kind kind>
constexpr OpDef define() {
  return {
      .name = name<kind>,
      .layout = layout<kind>,
      .cost = cost<kind>,
      .needs =
          [](const Signature& s) {
            if (kind != Kind::multiply) return Needs{};
            return Needs{.inputs = (s.wants_gradient(0) ? 2U : 0U) | (s.wants_gradient(1) ? 1U : 0U)};
          },
      .policy = Policy::recompute,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<kind>, [&]<class T>() { forward<kind, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<kind>, [&]<class T>() { backward<kind, T>(a); });
              }},
  };
}

}  // namespace

const OpDef add_op = define<Kind::add>();
const OpDef subtract_op = define<Kind::subtract>();
const OpDef multiply_op = define<Kind::multiply>();

Tensor add(const Tensor& a, const Tensor& b) { return apply(add_op, {a, b}); }
Tensor subtract(const Tensor& a, const Tensor& b) { return apply(subtract_op, {a, b}); }
Tensor multiply(const Tensor& a, const Tensor& b) { return apply(multiply_op, {a, b}); }

}  // namespace parabola
