// Convolutions on CUDA without columns: blocks gather the patches of their pixels while they load a tile (an implicit
// matrix product). y and dy are [pixels, K], weights [K, R, S, C / groups]. The order of every sum follows from shapes
// alone, and not from which gradients are wanted.
#pragma once
#include "engine/cuda/launch.cuh"
#include "engine/ops/conv2d/geometry.h"

namespace parabola {

// Whether these kernels, rather than columns and cuBLAS, compute a convolution.
template <class T>
bool without_columns(const ConvGeometry& g);

// y = x * weight + bias (null: none).
template <class T>
void device_implicit_forward(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* bias,
                             T* y);

// dx = or += the transposed convolution of dy: for a stride s, s x s convolutions of stride 1 (columns.h), so that no
// product with a zero in between is computed.
template <class T>
void device_implicit_input_gradient(DeviceStream stream, const ConvGeometry& g, const T* dy, const T* weight, T* dx,
                                    bool accumulate);

// dw = or += the sum over all pixels of dy times the patch. Blocks add up parts of the pixels, a second kernel the
// parts, which are in `workspace`.
template <class T>
void device_implicit_weight_gradient(DeviceStream stream, const ConvGeometry& g, const T* x, const T* dy, T* dw,
                                     bool accumulate, T* workspace);

// Its elements.
int64_t implicit_weight_gradient_elements(const ConvGeometry& g);

}  // namespace parabola
