// From the element types of files to those of the engine.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/io/safetensors.h"

namespace parabola {

// Exact, subnormals, infinities and NaN (with its payload) included.
float float_from_f16(uint16_t bits);
float float_from_bf16(uint16_t bits);

// Whether elements of type `from` can be read as `to`; see Safetensors::read().
bool is_convertible(FileDType from, DType to);

// Converts `count` elements; neither side need be aligned. Floating targets round to nearest (a float64 beyond float32
// becomes an infinity). Returns how many elements were converted before the first that is no i32: `count` if all were.
// Requires is_convertible(from, to).
size_t convert(FileDType from, const std::byte* in, DType to, std::byte* out, size_t count);

// Index of the first NaN or infinity among `count` elements of type `dtype`; `count` if there is none.
size_t find_non_finite(DType dtype, const std::byte* values, size_t count);

}  // namespace parabola
