// Element types and devices.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/half.h"

namespace parabola {

// float32 everywhere; float64 for gradient checks; bfloat16 and float16 (half.h) are computed with on CUDA only, in
// float32; int32 for labels and indices; uint8 for image bytes.
enum class DType : uint8_t { f32, f64, bf16, f16, i32, u8 };

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::u8: return 1;
  }
  return 0;
}

// Only tensors of floating point have gradients.
constexpr bool is_floating(DType dtype) { return dtype != DType::i32 && dtype != DType::u8; }

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::f64: return "f64";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
  }
  return "?";
}

template <class T>
struct dtype_of_type;
template <>
struct dtype_of_type<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_type<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of_type<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of_type<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of_type<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_type<f16> {
  static constexpr DType value = DType::f16;
};
template <class T>
constexpr DType dtype_of = dtype_of_type<T>::value;

// Calls body.template operator()<T>() with the C++ type of a floating dtype that the CPU computes in.
// DTypeError naming `op` for any other:  dispatch_float(x.dtype, "gelu", [&]<class T>() { ... });
template <class Body>
void dispatch_float(DType dtype, std::string_view op, Body&& body) {
  switch (dtype) {
    case DType::f32: return std::forward<Body>(body).template operator()<float>();
    case DType::f64: return std::forward<Body>(body).template operator()<double>();
    default: fail<DTypeError>(op, "dtype not supported on the CPU: got ", name_of(dtype), ", expected f32 or f64");
  }
}

// The same for every floating dtype: for what only moves or converts values, and for CUDA kernels, which compute on the
// 16-bit types in float.
template <class Body>
void dispatch_any_float(DType dtype, std::string_view op, Body&& body) {
  switch (dtype) {
    case DType::bf16: return std::forward<Body>(body).template operator()<bf16>();
    case DType::f16: return std::forward<Body>(body).template operator()<f16>();
    case DType::f32: return std::forward<Body>(body).template operator()<float>();
    case DType::f64: return std::forward<Body>(body).template operator()<double>();
    default: fail<DTypeError>(op, "got dtype ", name_of(dtype), ", expected a floating one");
  }
}

enum class DeviceKind : uint8_t { cpu, cuda };
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
  std::string str() const { return kind == DeviceKind::cpu ? "cpu" : "cuda:" + std::to_string(index); }
};

}  // namespace parabola
