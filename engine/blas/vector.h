// What one register of this machine holds, in GCC's and clang's vector types: one source for AVX-512, AVX2, SSE and
// NEON.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace parabola {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

// Whether there are 32 vector registers (AVX-512, NEON) or 16: it decides how many sums are kept side by side.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool many_registers = true;
#else
constexpr bool many_registers = false;
#endif

template <class T>
constexpr int64_t vector_lanes = vector_bytes / sizeof(T);

template <class T>
struct VectorOf {
  using type __attribute__((vector_size(vector_bytes))) = T;
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
[[gnu::always_inline]] inline Vector<T> load_vector(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof value);  // one instruction
  return value;
}
template <class T>
[[gnu::always_inline]] inline void store_vector(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof value);
}

// Whether stream_copy goes past the caches.
#if defined(__AVX512F__) || (defined(__AVX__) && defined(__FMA__))
constexpr bool has_streams = true;
#else
constexpr bool has_streams = false;
#endif

// Copies past the caches, for results too large to be read from there: plain stores first fetch what they overwrite.
// Whole vectors if `to` is aligned to them. end_streaming() makes this thread's copies visible to the others.
template <class T>
void stream_copy(int64_t count, const T* from, T* to) {
  int64_t i = 0;
  if (has_streams && reinterpret_cast<uintptr_t>(to) % vector_bytes == 0)
    for (; i + vector_lanes<T> <= count; i += vector_lanes<T>) {
#if defined(__AVX512F__)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(__AVX__) && defined(__FMA__)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#endif
    }
  for (; i < count; ++i) to[i] = from[i];
}
inline void end_streaming() {
#if defined(__AVX512F__) || (defined(__AVX__) && defined(__FMA__))
  _mm_sfence();
#endif
}

// `value` in every lane. (0 + value would make 0 of -0, so it would be an addition; value - 0 is value.)
template <class T>
[[gnu::always_inline]] inline Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

// The value in a register: a compiler that folds a load into each instruction which uses it loads it as many times.
template <class T>
[[gnu::always_inline]] inline Vector<T> in_register(Vector<T> value) {
#if defined(__AVX__)
  asm("" : "+v"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#endif
  return value;
}

#if defined(__AVX512F__)
// In every lane: the smaller and the larger of two, the second where one is no number; of a table of 32 floats in two
// registers that one whose number is in the lowest five bits.
[[gnu::always_inline]] inline Vector<float> smaller(Vector<float> x, Vector<float> y) { return _mm512_min_ps(x, y); }
[[gnu::always_inline]] inline Vector<float> larger(Vector<float> x, Vector<float> y) { return _mm512_max_ps(x, y); }
[[gnu::always_inline]] inline Vector<float> look_up(Vector<float> low, Vector<float> high, Vector<float> numbers) {
  return _mm512_permutex2var_ps(low, _mm512_castps_si512(numbers), high);
}
#endif

// x * y + sum, rounded once. clang makes one instruction of the expression; g++ does so of a loop, but not of one
// within others that are unrolled, so x86-64's are named.
template <class T>
[[gnu::always_inline]] inline Vector<T> multiply_add(Vector<T> x, Vector<T> y, Vector<T> sum) {
#if defined(__clang__)
#pragma clang fp contract(fast)
  return x * y + sum;
#elif defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_fmadd_ps(x, y, sum);
  else
    return _mm512_fmadd_pd(x, y, sum);
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4)
    return _mm256_fmadd_ps(x, y, sum);
  else
    return _mm256_fmadd_pd(x, y, sum);
#else
  for (int64_t i = 0; i < vector_lanes<T>; ++i) sum[i] = std::fma(x[i], y[i], sum[i]);
  return sum;
#endif
}

}  // namespace parabola
