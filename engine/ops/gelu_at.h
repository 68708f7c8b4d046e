// GELU and its slope at many values. In single precision where a register holds 16 floats (AVX-512), by a table that
// lies in registers; elsewhere value by value (normal_distribution.h).
#pragma once
#include <cstring>

#include "engine/blas/vector.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/normal_distribution.h"

namespace parabola {

// Elements [i, i + count), as many as a Value holds, or fewer.
template <class T, class Value>
struct ElementsAt {
  int64_t i, count;
  Value load(const T* from) const {
    Value value{};
    std::memcpy(&value, from + i, static_cast<size_t>(count) * sizeof(T));
    return value;
  }
  void store(T* to, Value value) const { std::memcpy(to + i, &value, static_cast<size_t>(count) * sizeof(T)); }
};

#if defined(__AVX512F__)

// Q(a) = Phi(-a) for a in [0, 6) by Taylor's polynomials of degree 5 about 32 points: the values of two registers for
// each coefficient. Q is off by at most 3e-9 where the coefficients are exact, its derivative by 2e-7.
struct TailTable {
  static constexpr int points = 32, degree = 5;
  static constexpr float points_per_unit = points / 6.0F, last = (points - 0.51F) / points_per_unit;
  Vector<float> low[degree + 1], high[degree + 1];  // [j]: of f^j, f from -1/2 to 1/2 being what is left to a point
  TailTable() {
    float rows[degree + 1][points];
    for (int k = 0; k < points; ++k) {
      const double a = k / double{points_per_unit}, aa = a * a;
      const double phi = std::exp(-aa / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      const double derivatives[] = {normal_tail(a),           -phi, a * phi, (1 - aa) * phi, (aa - 3) * a * phi,
                                    ((6 - aa) * aa - 3) * phi};
      double unit = 1;  // distance^j / j!
      for (int j = 0; j <= degree; unit /= double{points_per_unit} * ++j)
        rows[j][k] = static_cast<float>(derivatives[j] * unit);
    }
    for (int j = 0; j <= degree; ++j) low[j] = load_vector(rows[j]), high[j] = load_vector(rows[j] + points / 2);
  }
};
inline const TailTable& tail_table() {
  static const TailTable table;
  return table;
}

// gelu at 16 values, and how it changes there, as GeluAt has it for one. Beyond |x| = 5.9 Q stays the 2e-9 that it is
// there: gelu is 1e-8 below 0, or below x where x's own rounding shows that; its slope is 6e-8 below 0 or above 1.
struct GeluAtVector {
  Vector<float> value, slope;
  [[gnu::always_inline]] GeluAtVector(Vector<float> x, const TailTable& table) {
    using Bits = Vector<int32_t>;
    constexpr float to_integer = 0x1.8p23F;  // added to a float, it leaves the integer part in the lowest bits
    const Vector<float> unit = broadcast(TailTable::points_per_unit);
    const Vector<float> a = smaller(Vector<float>(Bits(x) & INT32_MAX), broadcast(TailTable::last));
    const Vector<float> number = multiply_add<float>(a, unit, broadcast(to_integer));
    const Vector<float> f = multiply_add<float>(a, unit, broadcast(to_integer) - number);
    const auto coefficient = [&](int j) { return look_up(table.low[j], table.high[j], number); };
    Vector<float> tail = coefficient(TailTable::degree), change = tail;
#pragma GCC unroll 8
    for (int j = TailTable::degree - 1; j >= 0; --j) {
      tail = multiply_add<float>(tail, f, coefficient(j));
      if (j > 0) change = multiply_add<float>(change, f, tail);
    }
    value = multiply_add<float>(-a, tail, larger(Vector<float>{}, x));  // of no number x itself
    const Vector<float> half = broadcast(0.5F), below = multiply_add<float>(a * unit, change, tail);
    slope = half + Vector<float>(Bits(half - below) ^ (Bits(x) & INT32_MIN));
  }
};

#endif

// Calls use(where, gelu) until it has had all elements: where(ElementsAt) are some, gelu.value and gelu.slope theirs.
// What u has 8 KiB further is asked for: backward's may come from main memory, and too late without.
template <class T, class Use>
[[gnu::always_inline]] inline void each_gelu(int64_t count, const T* u, const Use& use) {
  constexpr int64_t ahead = 8192 / sizeof(T), line = 64 / sizeof(T);
  int64_t i = 0;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    const TailTable table = tail_table();  // in registers
    const auto step = [&](int64_t elements) __attribute__((always_inline)) {
      const ElementsAt<T, Vector<T>> where{i, elements};
      use(where, GeluAtVector(where.load(u), table));
    };
    for (; i + line <= count; i += line) {
      __builtin_prefetch(u + i + ahead);
      step(line);
    }
    if (i < count) step(count - i);
    return;
  }
#endif
  const auto one_by_one = [&](int64_t end) __attribute__((always_inline)) {
    PARABOLA_INDEPENDENT
    for (int64_t j = i; j < end; ++j) use(ElementsAt<T, T>{j, 1}, GeluAt<T>(u[j]));
  };
  for (; i + 4 * line <= count; i += 4 * line) {
    for (int64_t j = 0; j < 4; ++j) __builtin_prefetch(u + i + ahead + j * line);
    one_by_one(i + 4 * line);
  }
  one_by_one(count);
}

}  // namespace parabola
