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
class TailTable {
 public:
  static constexpr int points = 32, degree = 5;
  static constexpr float points_per_unit = points / 6.0F, last = (points - 0.51F) / points_per_unit;
  TailTable() {
    alignas(64) float rows[degree + 1][points];
    for (int k = 0; k < points; ++k) {
      const double a = k / double{points_per_unit}, aa = a * a;
      const double phi = std::exp(-aa / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      const double derivatives[] = {normal_tail(a),           -phi, a * phi, (1 - aa) * phi, (aa - 3) * a * phi,
                                    ((6 - aa) * aa - 3) * phi};
      double unit = 1;  // distance^j / j!
      for (int j = 0; j <= degree; unit /= double{points_per_unit} * ++j)
        rows[j][k] = static_cast<float>(derivatives[j] * unit);
    }
    for (int j = 0; j <= degree; ++j) low_[j] = load_vector(rows[j]), high_[j] = load_vector(rows[j] + points / 2);
  }
  // The coefficient of f^j about the points whose numbers are in the lowest five bits.
  [[gnu::always_inline]] Vector<float> operator()(int j, Vector<float> numbers) const {
    return Vector<float>(_mm512_permutex2var_ps(low_[j], _mm512_castps_si512(numbers), high_[j]));
  }

 private:
  Vector<float> low_[degree + 1], high_[degree + 1];
};

// gelu at 16 values, and how it changes there, as GeluAt has it for one.
struct GeluAtVector {
  Vector<float> value, slope;
  [[gnu::always_inline]] GeluAtVector(Vector<float> x, const TailTable& table) {
    constexpr float to_integer = 0x1.8p23F;  // added to a float, it leaves the integer part in the lowest bits
    const Vector<float> unit = broadcast(TailTable::points_per_unit);
    // Where one argument is no number min and max return the second: a is `last` then, and max keeps x.
    const Vector<float> a = _mm512_min_ps(_mm512_abs_ps(x), broadcast(TailTable::last));
    const Vector<float> number = multiply_add<float>(a, unit, broadcast(to_integer));
    const Vector<float> f = multiply_add<float>(a, unit, broadcast(to_integer) - number);
    Vector<float> tail = table(TailTable::degree, number), change{};
#pragma GCC unroll 8
    for (int j = TailTable::degree - 1; j >= 0; --j) {
      change = j == TailTable::degree - 1 ? tail : multiply_add<float>(change, f, tail);
      tail = multiply_add<float>(tail, f, table(j, number));
    }
    value = multiply_add<float>(-a, tail, Vector<float>(_mm512_max_ps(Vector<float>{}, x)));
    const Vector<float> half = broadcast(0.5F), below = multiply_add<float>(a * unit, change, tail);
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    slope = half + Vector<float>(_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(half - below), sign)));
  }
};

#endif

// Calls use(where, gelu) until it has had all elements: where(ElementsAt) are some, gelu.value and gelu.slope theirs.
// u may come from main memory, too late if it is not asked for early.
template <class T, class Use>
[[gnu::always_inline]] inline void each_gelu(int64_t count, const T* u, const Use& use) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    static const TailTable shared;
    const TailTable table = shared;  // into registers
    constexpr int64_t lanes = vector_lanes<T>, ahead = 8192 / sizeof(T);
    const auto step = [&](int64_t i, int64_t elements) __attribute__((always_inline)) {
      const ElementsAt<T, Vector<T>> where{i, elements};
      use(where, GeluAtVector(where.load(u), table));
    };
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      __builtin_prefetch(u + i + ahead);
      step(i, lanes);
    }
    if (i < count) step(i, count - i);
    return;
  }
#endif
  PARABOLA_INDEPENDENT
  for (int64_t i = 0; i < count; ++i) use(ElementsAt<T, T>{i, 1}, GeluAt<T>(u[i]));
}

}  // namespace parabola
