// The three passes of a convolution on CUDA, for all ops that contain one: of a chunk by columns and cuBLAS, and of the
// batch, mostly without columns (implicit.cuh). `columns` has room for column_elements() of the chunk's pixels; y and
// dy are the chunk's own rows, x and dx the batch.
#pragma once
#include "engine/ops/affine.cuh"
#include "engine/ops/conv2d/columns.cuh"
#include "engine/ops/scratch.h"

namespace parabola {

// y = columns * weight + bias (null: none).
template <class T>
void device_convolve_chunk(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk,
                           const DeviceColumns<T>& columns, const T* weight, const T* bias, T* y);

// dw = or += dy times the columns.
template <class T>
void device_weight_gradient(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk,
                            const DeviceColumns<T>& columns, const T* dy, T* dw, bool accumulate);

// dx = or += the transposed convolution of dy.
template <class T>
void device_input_gradient(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* dy,
                           const T* weight, T* dx, bool accumulate, T* columns);

// The chunks in which a convolution by columns goes through the batch.
ConvChunks convolution_chunks(const ConvGeometry& g);

// y = x * weight + bias (null: none).
template <class T>
void device_convolve(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* bias, T* y,
                     T* columns);

// Its gradients; null pointers are skipped, and what only they read is not read.
template <class T>
struct ConvGradients {
  T *dx = nullptr, *dw = nullptr, *db = nullptr;
  bool accumulate_dx = false, accumulate_dw = false, accumulate_db = false;
};

template <class T>
void device_convolve_backward(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* dy,
                              const ConvGradients<T>& gradients, std::byte* workspace);

// Bytes of workspace for them: of columns or partial sums, and of the bias's gradient, by which gradients are wanted.
template <class T>
size_t device_convolve_workspace(const ConvGeometry& g);
template <class T>
size_t device_convolve_backward_workspace(const ConvGeometry& g, bool dx, bool dw, bool db);

}  // namespace parabola
