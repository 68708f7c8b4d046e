#include "engine/ops/conv2d/convolve.cuh"

#include <algorithm>

#include "engine/ops/conv2d/implicit.cuh"

namespace parabola {

// The bias is what the product is added to, as in device_affine: y is still in the cache then.
template <class T>
void device_convolve_chunk(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk,
                           const DeviceColumns<T>& columns, const T* weight, const T* bias, T* y) {
  const int64_t depth = g.depth(), outputs = g.group_outputs(), pixels = chunk.pixels(g);
  if (bias) launch_on_columns(affine_start<T>, stream, pixels, g.K, bias, y, pixels, g.K);
  device_gemm_batched(stream, g.groups, pixels, outputs, depth, columns.factor, columns.step, {weight, depth, true},
                      outputs * depth, y, g.K, outputs, bias != nullptr);
}

template <class T>
void device_weight_gradient(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk,
                            const DeviceColumns<T>& columns, const T* dy, T* dw, bool accumulate) {
  const int64_t depth = g.depth(), outputs = g.group_outputs();
  device_gemm_batched(stream, g.groups, outputs, depth, chunk.pixels(g), {dy, g.K, true}, outputs, columns.factor,
                      columns.step, dw, depth, outputs * depth, accumulate);
}

template <class T>
void device_input_gradient(DeviceStream stream, const ConvGeometry& g, const ConvChunk& chunk, const T* dy,
                           const T* weight, T* dx, bool accumulate, T* columns) {
  const int64_t depth = g.depth(), outputs = g.group_outputs(), pixels = chunk.pixels(g);
  const auto product = [&](T* to, int64_t stride, int64_t step, bool add) {
    device_gemm_batched(stream, g.groups, pixels, depth, outputs, {dy, g.K}, outputs, {weight, depth}, outputs * depth,
                        to, stride, step, add);
  };
  if (column_elements(g) == 0) return product(dx + chunk.first_pixel(g) * g.C, g.C, g.group_inputs(), accumulate);
  product(columns, depth, pixels * depth, false);
  device_gather(stream, g, chunk, columns, dx, accumulate);
}

ConvChunks convolution_chunks(const ConvGeometry& g) { return {g, column_elements(g)}; }

template <class T>
void device_convolve(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* bias, T* y,
                     T* columns) {
  if (without_columns<T>(g)) return device_implicit_forward(stream, g, x, weight, bias, y);
  const ConvChunks chunks = convolution_chunks(g);
  for (int64_t i = 0; i < chunks.number(); ++i) {
    const ConvChunk chunk = chunks[i];
    device_convolve_chunk(stream, g, chunk, device_columns(stream, g, chunk, x, columns), weight, bias,
                          y + chunk.first_pixel(g) * g.K);
  }
}

namespace {

template <class T>
void gradients_by_columns(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* dy,
                          const ConvGradients<T>& gradients, T* columns) {
  const ConvChunks chunks = convolution_chunks(g);
  for (int64_t i = 0; i < chunks.number() && (gradients.dx || gradients.dw); ++i) {
    const ConvChunk chunk = chunks[i];
    const T* rows = dy + chunk.first_pixel(g) * g.K;
    if (gradients.dw)
      device_weight_gradient(stream, g, chunk, device_columns(stream, g, chunk, x, columns), rows, gradients.dw,
                             gradients.accumulate_dw || i > 0);
    if (gradients.dx)
      device_input_gradient(stream, g, chunk, rows, weight, gradients.dx, gradients.accumulate_dx, columns);
  }
}

}  // namespace

template <class T>
void device_convolve_backward(DeviceStream stream, const ConvGeometry& g, const T* x, const T* weight, const T* dy,
                              const ConvGradients<T>& gradients, std::byte* workspace) {
  T* scratch = reinterpret_cast<T*>(workspace);
  if (!without_columns<T>(g)) {
    gradients_by_columns(stream, g, x, weight, dy, gradients, scratch);
  } else {
    if (gradients.dw) device_implicit_weight_gradient(stream, g, x, dy, gradients.dw, gradients.accumulate_dw, scratch);
    if (gradients.dx) device_implicit_input_gradient(stream, g, dy, weight, gradients.dx, gradients.accumulate_dx);
  }
  if (gradients.db) device_bias_gradient(stream, dy, g.pixels(), g.K, gradients.db, gradients.accumulate_db, workspace);
}

template <class T>
size_t device_convolve_workspace(const ConvGeometry& g) {
  if (without_columns<T>(g)) return 0;
  return static_cast<size_t>(convolution_chunks(g).most_pixels(g) * column_elements(g)) * sizeof(T);
}

template <class T>
size_t device_convolve_backward_workspace(const ConvGeometry& g, bool dx, bool dw, bool db) {
  const size_t parts = dw ? static_cast<size_t>(implicit_weight_gradient_elements(g)) * sizeof(T) : 0;
  const size_t products = without_columns<T>(g) ? parts : dx || dw ? device_convolve_workspace<T>(g) : 0;
  return std::max(products, db ? device_bias_gradient_workspace<T>(g.pixels(), g.K) : 0);
}

#define PARABOLA_CONVOLVE(T)                                                                                         \
  template void device_convolve_chunk(DeviceStream, const ConvGeometry&, const ConvChunk&, const DeviceColumns<T>&,  \
                                      const T*, const T*, T*);                                                       \
  template void device_weight_gradient(DeviceStream, const ConvGeometry&, const ConvChunk&, const DeviceColumns<T>&, \
                                       const T*, T*, bool);                                                          \
  template void device_input_gradient(DeviceStream, const ConvGeometry&, const ConvChunk&, const T*, const T*, T*,   \
                                      bool, T*);                                                                     \
  template void device_convolve(DeviceStream, const ConvGeometry&, const T*, const T*, const T*, T*, T*);            \
  template void device_convolve_backward(DeviceStream, const ConvGeometry&, const T*, const T*, const T*,            \
                                         const ConvGradients<T>&, std::byte*);                                       \
  template size_t device_convolve_workspace<T>(const ConvGeometry&);                                                 \
  template size_t device_convolve_backward_workspace<T>(const ConvGeometry&, bool, bool, bool);
PARABOLA_CONVOLVE(float)
PARABOLA_CONVOLVE(double)

}  // namespace parabola
