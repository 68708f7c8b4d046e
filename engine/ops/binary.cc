#include "engine/ops/binary.h"

#include "engine/core/error.h"
#include "engine/ops/checks.h"
#include "engine/ops/reduction.h"
#include "engine/ops/walk.h"

namespace parabola {
namespace {

enum class Kind : uint8_t { add, subtract, multiply, divide };

constexpr const char* names[] = {"add", "subtract", "multiply", "divide"};
constexpr const char* name_of(Kind kind) { return names[static_cast<int>(kind)]; }

// Whether an operand's gradient is dy times something, or only dy with a sign.
constexpr bool has_factor(Kind kind) { return kind == Kind::multiply || kind == Kind::divide; }

template <Kind kind, class T>
T combine(T a, T b) {
  return kind == Kind::add ? a + b : kind == Kind::subtract ? a - b : kind == Kind::multiply ? a * b : a / b;
}

// The axes of `out` along which an operand of shape `from` is repeated.
AxisMask repeated_axes(const Shape& from, const Shape& out) {
  AxisMask axes = 0;
  const Strides strides = broadcast_strides(from, out);
  for (int axis = 0; axis < out.rank(); ++axis) axes |= AxisMask{strides[axis] == 0} << axis;
  return axes;
}

// Calls f(index in `out`, in a, in b) for a and b repeated to shape `out`.
template <class F>
void each_pair(const Shape& a, const Shape& b, const Shape& out, F f) {
  const Walk walk(out, broadcast_strides(a, out), broadcast_strides(b, out));
  const int64_t step_a = walk.step_a(), step_b = walk.step_b();
  // Within a row an operand either runs along or stands still; three loops that vectorise.
  constexpr std::integral_constant<int64_t, 0> still;
  constexpr std::integral_constant<int64_t, 1> along;
  walk.each_row([=](int64_t i, int64_t at_a, int64_t at_b, int64_t count) {
    const auto row = [=](auto a_moves, auto b_moves) {
      PARABOLA_INDEPENDENT
      for (int64_t k = 0; k < count; ++k) f(i + k, at_a + a_moves * k, at_b + b_moves * k);
    };
    if (step_b == 0) return row(along, still);
    if (step_a == 0) return row(still, along);
    row(along, along);
  });
}

// y = a combined with b, or += where `accumulate`. This is forward, and where dy stands for a, also the gradient of
// what is multiplied or divided by b.
template <Kind kind, class T>
void combine_all(const TensorView& a, const TensorView& b, const Shape& out, T* y, bool accumulate) {
  const T *in_a = a.data<T>(), *in_b = b.data<T>();
  each_pair(a.shape, b.shape, out, [=](int64_t i, int64_t at_a, int64_t at_b) {
    const T value = combine<kind>(in_a[at_a], in_b[at_b]);
    y[i] = has_factor(kind) && accumulate ? y[i] + value : value;
  });
}

template <Kind kind, class T>
void forward(const ForwardArgs& args) {
  combine_all<kind>(args.inputs[0], args.inputs[1], args.outputs[0].shape, args.outputs[0].data<T>(), false);
}

template <class T>
void divisor_gradient(const TensorView& dy, const TensorView& a, const TensorView& b, T* db, bool accumulate) {
  const T *g = dy.data<T>(), *dividend = a.data<T>(), *divisor = b.data<T>();
  each_pair(a.shape, b.shape, dy.shape, [=](int64_t i, int64_t at_a, int64_t at_b) {
    const T d = -g[i] * (dividend[at_a] / divisor[at_b]) / divisor[at_b];
    db[i] = accumulate ? db[i] + d : d;
  });
}

// An operand's gradient as if it had dy's shape, for products and quotients.
template <Kind kind, class T>
void full_gradient(const BackwardArgs& args, int operand, T* to, bool accumulate) {
  const TensorView& dy = args.output_gradients[0];
  if (kind == Kind::divide && operand == 1) return divisor_gradient(dy, args.inputs[0], args.inputs[1], to, accumulate);
  combine_all<kind>(dy, args.inputs[1 - operand], dy.shape, to, accumulate);
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
    if constexpr (has_factor(kind)) return full_gradient<kind>(args, operand, d, accumulate);
    if (d == g) return;  // and operand 0 has no sign
    return parallel_for(dy.shape.elements(), elementwise_grain, [=](int64_t begin, int64_t end) {
      store_or_add(d, accumulate, begin, end, [=](int64_t i) { return sign * g[i]; });
    });
  }
  const Reduction reduction(dy.shape, repeated_axes(target.shape, dy.shape));
  T* workspace = reinterpret_cast<T*>(args.workspace);
  if constexpr (!has_factor(kind)) {
    sum_gradient<T>(reduction, workspace, {g, nullptr, sign}, d, accumulate);
  } else if (kind == Kind::multiply && other.shape == dy.shape) {
    sum_gradient<T>(reduction, workspace, {g, factor, 1}, d, accumulate);
  } else {  // a quotient, or both operands are repeated, each along axes of its own
    T* terms = workspace + reduction.workspace<T>() / sizeof(T);
    full_gradient<kind>(args, operand, terms, false);
    sum_gradient<T>(reduction, workspace, {terms, nullptr, 1}, d, accumulate);
  }
}

template <Kind kind, class T>
void backward(const BackwardArgs& args) {
  for (int operand : {1, 0})  // the first one's may lie where dy does
    if (args.wants(operand)) operand_gradient<kind, T>(args, operand);
}

Layout layout(Kind kind, const Signature& s) {
  require_one_dtype(name_of(kind), s);
  const Shape out = broadcast(s.shape(0), s.shape(1), name_of(kind));
  Layout result{.outputs = {{out, s.dtype()}}};
  dispatch_any_float(s.dtype(), name_of(kind), [&]<class T>() {
    for (int operand : {0, 1}) {
      if (!s.wants_gradient(operand) || s.shape(operand) == out) continue;
      size_t bytes = Reduction(out, repeated_axes(s.shape(operand), out)).template workspace<T>();
      if (kind == Kind::divide || (kind == Kind::multiply && s.shape(1 - operand) != out))
        bytes += result.outputs[0].bytes();
      result.backward_workspace = std::max(result.backward_workspace, bytes);
    }
  });
  return result;
}

StepCost cost(Kind kind, const Signature& s) {
  const TensorSpec out{broadcast(s.shape(0), s.shape(1), name_of(kind)), s.dtype()};
  const double n = static_cast<double>(out.shape.elements()), bytes = static_cast<double>(out.bytes());
  const auto bytes_of = [&](int i) { return static_cast<double>(s.inputs[static_cast<size_t>(i)].bytes()); };
  StepCost result{{n, bytes_of(0) + bytes_of(1), bytes}, {}};
  for (int operand : {0, 1}) {
    if (!s.wants_gradient(operand)) continue;
    const bool divisor = kind == Kind::divide && operand == 1;
    result.backward.flops +=
        n * ((has_factor(kind) ? 1 : 0) + (divisor ? 2 : 0) + (s.shape(operand) == out.shape ? 0 : 1));
    result.backward.bytes_read +=
        bytes + (has_factor(kind) ? bytes_of(1 - operand) : 0) + (divisor ? bytes_of(operand) : 0);
    result.backward.bytes_written += bytes_of(operand);
  }
  return result;
}

template <Kind kind>
constexpr OpDef define() {
  return {
      .name = name_of(kind),
      .layout = [](const Signature& s) { return layout(kind, s); },
      .cost = [](const Signature& s) { return cost(kind, s); },
      .needs =
          [](const Signature& s) {
            const unsigned for_a = has_factor(kind) ? 2 : 0, for_b = kind == Kind::divide ? 3 : for_a / 2;
            return Needs{.inputs = (s.wants_gradient(0) ? for_a : 0) | (s.wants_gradient(1) ? for_b : 0)};
          },
      .policy = Policy::recompute,
      .gradient_in_place = 0,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name_of(kind), [&]<class T>() { forward<kind, T>(a); });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name_of(kind), [&]<class T>() { backward<kind, T>(a); });
              }},
  };
}

}  // namespace

const OpDef add_op = define<Kind::add>(), subtract_op = define<Kind::subtract>(),
            multiply_op = define<Kind::multiply>(), divide_op = define<Kind::divide>();

Tensor add(const Tensor& a, const Tensor& b) { return apply(add_op, {a, b}); }
Tensor subtract(const Tensor& a, const Tensor& b) { return apply(subtract_op, {a, b}); }
Tensor multiply(const Tensor& a, const Tensor& b) { return apply(multiply_op, {a, b}); }
Tensor divide(const Tensor& a, const Tensor& b) { return apply(divide_op, {a, b}); }

}  // namespace parabola
