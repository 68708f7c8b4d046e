#include "engine/io/convert.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

namespace parabola {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so must be the machine");

// File types that C++ 20 has no type for.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};
struct Boolean {
  uint8_t byte;
};

float value_of(Half half) { return float_from_f16(half.bits); }
float value_of(Brain brain) { return float_from_bf16(brain.bits); }
uint8_t value_of(Boolean boolean) { return boolean.byte != 0; }
template <class Number>
Number value_of(Number number) {
  return number;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class Value>
bool is_i32(Value value) {
  if constexpr (std::is_floating_point_v<Value>)
    return value >= -0x1p31 && value < 0x1p31 && value == std::trunc(value);
  else
    return std::in_range<int32_t>(value);
}

template <class From, class To>
size_t convert_all(const std::byte* in, std::byte* out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const auto value = value_of(load<From>(in + i * sizeof(From)));
    if constexpr (std::is_same_v<To, int32_t>)
      if (!is_i32(value)) return i;
    const To converted = static_cast<To>(value);
    std::memcpy(out + i * sizeof(To), &converted, sizeof(To));
  }
  return count;
}

template <class From>
size_t convert_to(DType to, const std::byte* in, std::byte* out, size_t count) {
  switch (to) {
    case DType::f32: return convert_all<From, float>(in, out, count);
    case DType::f64: return convert_all<From, double>(in, out, count);
    case DType::i32: return convert_all<From, int32_t>(in, out, count);
    default: return 0;
  }
}

bool is_same(FileDType from, DType to) {
  switch (to) {
    case DType::f32: return from == FileDType::f32;
    case DType::f64: return from == FileDType::f64;
    case DType::f16: return from == FileDType::f16;
    case DType::bf16: return from == FileDType::bf16;
    case DType::i32: return from == FileDType::i32;
    case DType::u8: return from == FileDType::u8;
  }
  return false;
}

template <class T>
size_t first_non_finite(const std::byte* values, size_t count) {
  size_t i = 0;
  while (i < count && std::isfinite(static_cast<double>(value_of(load<T>(values + i * sizeof(T)))))) ++i;
  return i;
}

}  // namespace

float float_from_f16(uint16_t bits) { return std::bit_cast<f16>(bits); }

float float_from_bf16(uint16_t bits) { return std::bit_cast<bf16>(bits); }

bool is_convertible(FileDType from, DType to) {
  const bool is_number = from <= FileDType::f64;  // the table's first half: BOOL, integers, floating types
  return is_same(from, to) || (is_number && (to == DType::f32 || to == DType::f64 || to == DType::i32));
}

size_t convert(FileDType from, const std::byte* in, DType to, std::byte* out, size_t count) {
  if (is_same(from, to)) {
    if (count > 0) std::memcpy(out, in, count * size_of(to));
    return count;
  }
  switch (from) {
    case FileDType::boolean: return convert_to<Boolean>(to, in, out, count);
    case FileDType::u8: return convert_to<uint8_t>(to, in, out, count);
    case FileDType::i8: return convert_to<int8_t>(to, in, out, count);
    case FileDType::u16: return convert_to<uint16_t>(to, in, out, count);
    case FileDType::i16: return convert_to<int16_t>(to, in, out, count);
    case FileDType::u32: return convert_to<uint32_t>(to, in, out, count);
    case FileDType::i32: return convert_to<int32_t>(to, in, out, count);
    case FileDType::u64: return convert_to<uint64_t>(to, in, out, count);
    case FileDType::i64: return convert_to<int64_t>(to, in, out, count);
    case FileDType::f16: return convert_to<Half>(to, in, out, count);
    case FileDType::bf16: return convert_to<Brain>(to, in, out, count);
    case FileDType::f32: return convert_to<float>(to, in, out, count);
    case FileDType::f64: return convert_to<double>(to, in, out, count);
    default: return 0;
  }
}

size_t find_non_finite(DType dtype, const std::byte* values, size_t count) {
  switch (dtype) {
    case DType::f32: return first_non_finite<float>(values, count);
    case DType::f64: return first_non_finite<double>(values, count);
    case DType::f16: return first_non_finite<Half>(values, count);
    case DType::bf16: return first_non_finite<Brain>(values, count);
    case DType::i32:
    case DType::u8: return count;
  }
  return count;
}

}  // namespace parabola
