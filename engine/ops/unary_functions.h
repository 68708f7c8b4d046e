// The functions of unary.h, one struct each, for CPU and CUDA alike: value(x), and gradient(read, dy), where `read` is
// what backward reads. Flops: forward and backward; vector_exp is 14 of them.
#pragma once
#include <algorithm>
#include <numbers>

#include "engine/ops/unary.h"
#include "engine/ops/vector_math.h"

namespace parabola::unary {

enum class Reads : uint8_t { nothing, x, y };

struct Neg {
  static constexpr const char* name = "neg";
  static constexpr Reads reads = Reads::nothing;
  static constexpr double flops[] = {1, 1};
  template <class Real>
  constexpr Real value(Real x) const {
    return -x;
  }
  template <class Real>
  constexpr Real gradient(Real, Real dy) const {
    return -dy;
  }
};

struct Exp {
  static constexpr const char* name = "exp";
  static constexpr Reads reads = Reads::y;
  static constexpr double flops[] = {14, 1};
  template <class Real>
  constexpr Real value(Real x) const {
    return vector_exp(x);
  }
  template <class Real>
  constexpr Real gradient(Real y, Real dy) const {
    return dy * y;
  }
};

struct Log {
  static constexpr const char* name = "log";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {17, 1};
  template <class Real>
  constexpr Real value(Real x) const {
    return vector_log(x);
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    return dy / x;
  }
};

struct Sqrt {
  static constexpr const char* name = "sqrt";
  static constexpr Reads reads = Reads::y;
  static constexpr double flops[] = {1, 2};
  template <class Real>
  constexpr Real value(Real x) const {
    return std::sqrt(x);
  }
  template <class Real>
  constexpr Real gradient(Real y, Real dy) const {
    return dy / (2 * y);
  }
};

struct Square {
  static constexpr const char* name = "square";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {1, 2};
  template <class Real>
  constexpr Real value(Real x) const {
    return x * x;
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    return dy * (2 * x);
  }
};

struct Abs {
  static constexpr const char* name = "abs";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {1, 1};
  template <class Real>
  constexpr Real value(Real x) const {
    return std::abs(x);
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    return x > 0 ? dy : x < 0 ? -dy : Real(0);
  }
};

// A NaN stays one: no comparison holds for it.
struct Clamp : ClampAttributes {
  using Options = ClampAttributes;
  static constexpr const char* name = "clamp";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {2, 2};
  template <class Real>
  constexpr Real value(Real x) const {
    const Real least = Real(low), most = Real(high);
    return x < least ? least : x > most ? most : x;
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    const Real least = Real(low), most = Real(high);
    return x > least && x < most ? dy : Real(0);
  }
};

struct Relu6 {
  static constexpr const char* name = "relu6";
  static constexpr Reads reads = Reads::y;
  static constexpr double flops[] = {2, 2};
  template <class Real>
  constexpr Real value(Real x) const {
    return x < 0 ? Real(0) : x > 6 ? Real(6) : x;
  }
  template <class Real>
  constexpr Real gradient(Real y, Real dy) const {
    return y > 0 && y < 6 ? dy : Real(0);
  }
};

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr Reads reads = Reads::y;
  static constexpr double flops[] = {17, 3};
  template <class Real>
  constexpr Real value(Real x) const {
    return vector_sigmoid(x);
  }
  template <class Real>
  constexpr Real gradient(Real y, Real dy) const {
    return dy * (y * (1 - y));
  }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr Reads reads = Reads::y;
  static constexpr double flops[] = {19, 3};
  template <class Real>
  constexpr Real value(Real x) const {
    return vector_tanh(x);
  }
  template <class Real>
  constexpr Real gradient(Real y, Real dy) const {
    return dy * ((1 - y) * (1 + y));
  }
};

struct Silu {
  static constexpr const char* name = "silu";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {18, 22};
  template <class Real>
  constexpr Real value(Real x) const {
    return x * vector_sigmoid(x);
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    const Real s = vector_sigmoid(x);
    return dy * (s + x * (s * (1 - s)));
  }
};

// (1 + tanh u) / 2 = sigmoid(2 u) = s, where u = sqrt(2 / pi) (x + 0.044715 x^3). Of a large x s is 0 or 1 and its
// slope s (1 - s) 2 u' is 0, also where x^2 is infinite: x and x^2 are multiplied by s (1 - s) one after another.
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  static constexpr Reads reads = Reads::x;
  static constexpr double flops[] = {24, 33};
  template <class Real>
  static constexpr Real factor = 2 * std::numbers::sqrt2_v<Real>* std::numbers::inv_sqrtpi_v<Real>;
  template <class Real>
  constexpr Real value(Real x) const {
    return x * vector_sigmoid(factor<Real> * x * (1 + Real(0.044715) * x * x));
  }
  template <class Real>
  constexpr Real gradient(Real x, Real dy) const {
    const Real s = vector_sigmoid(factor<Real> * x * (1 + Real(0.044715) * x * x)), slope = x * (s * (1 - s));
    return dy * (s + factor<Real> * (slope + Real(3 * 0.044715) * (x * (x * slope))));
  }
};

// The function with the options that it has.
template <class F>
F function_of(const Attributes& attributes) {
  if constexpr (!std::is_empty_v<F>) return F{attributes.get<typename F::Options>()};
  return F{};
}

}  // namespace parabola::unary
