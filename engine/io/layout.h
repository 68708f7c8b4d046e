// Between the engine's layouts of weights (NHWC, rank first) and those of PyTorch's files. Letters as in shape.h, and
// Cg input channels of a group, J rank (number of factors), M D outputs and inputs of a linear factor.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/core/shape.h"

namespace parabola {

//                     engine            file
// plain               any               the same
// conv                [K, R, S, Cg]     [K, Cg, R, S]
// depthwise           [R, S, C]         [C, 1, R, S]
// depthwise_factors   [J, R, S, C]      [C*J, 1, R, S], index c*J + j: a grouped convolution with multiplier J
// linear_factors      [J, M, D]         [M*J, D],       index m*J + j
// conv_factors        [J, K, R, S, Cg]  [K*J, Cg, R, S], index k*J + j
enum class FileLayout : uint8_t { plain, conv, depthwise, depthwise_factors, linear_factors, conv_factors };

// The shape that a tensor of shape `engine` has in a file. ShapeError where its rank is not the layout's.
Shape file_shape(const Shape& engine, FileLayout layout);

// Copies a whole tensor of shape `engine` from one layout to the other; values are moved, never changed.
// `element_bytes` is 1, 2, 4 or 8; the two buffers must not overlap. ShapeError as file_shape(); UsageError on another
// element size.
void to_file(const Shape& engine, FileLayout layout, size_t element_bytes, const void* engine_data, void* file_data);
void from_file(const Shape& engine, FileLayout layout, size_t element_bytes, const void* file_data, void* engine_data);

}  // namespace parabola
