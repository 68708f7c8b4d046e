// What a quadratic term makes of x itself on CUDA: x∘x for the square weight, and x as the left factor of a form (type
// 1). A neuron's inputs, for a convolution its patch, are rows of n values, a matrix for each group.
#pragma once
#include <cmath>

#include "engine/cuda/warp.cuh"
#include "engine/ops/quadratic_term.cuh"

namespace parabola {

// x, as the columns of a convolution or the rows of a dense layer lie.
template <class T>
struct PatchRows {
  const T* x;
  int64_t stride, group_step;  // from one row to the next, from one group to the next
  int64_t groups, rows, n;
  constexpr int64_t elements() const { return groups * rows * n; }
  // Element i of what is made of them, [groups][rows, n].
  __device__ T at(int64_t i) const { return x[i / n / rows * group_step + i / n % rows * stride + i % n]; }
};

// z [groups][rows, n] = scale * x∘x.
template <class T>
__global__ void quadratic_squares(PatchRows<T> patches, T scale, T* z) {
  for (int64_t i = thread_index(); i < patches.elements(); i += thread_count()) {
    const T x = patches.at(i);
    z[i] = scale * x * x;
  }
}

// dx [groups][rows, n] = or += 2 scale x∘dz.
template <class T>
__global__ void quadratic_squares_backward(PatchRows<T> patches, T scale, const T* dz, T* dx, bool accumulate) {
  for (int64_t i = thread_index(); i < patches.elements(); i += thread_count()) {
    const T d = 2 * scale * patches.at(i) * dz[i];
    dx[i] = accumulate ? dx[i] + d : d;
  }
}

// y [rows, columns] += scale * sum_j x_j b_j, for launch_on_columns.
template <class T>
__global__ void quadratic_form_forward(ProductRows in, PatchRows<T> patches, const T* b, T scale, T* y, int64_t rows,
                                       int64_t columns) {
  const int64_t k = thread_index();
  if (k >= columns) return;
  const int64_t begin = in.of_output(k);
  const T* x = patches.x + k / in.width * patches.group_step;
  for (int64_t row = thread_row(); row < rows; row += row_count()) {
    const int64_t at = row * in.stride + begin;
    T sum = x[row * patches.stride] * b[at];
    for (int64_t j = 1; j < in.ranks; ++j) sum = std::fma(x[row * patches.stride + j], b[at + j * in.width], sum);
    T& out = y[row * columns + k];
    out = std::fma(scale, sum, out);
  }
}

// dx_j [groups][rows, n] = or += scale dy·b_j, null where not wanted (then b is not read), and db_j = scale x_j dy,
// which may replace b. A warp takes one x_j.
template <class T>
__global__ void quadratic_form_backward(ProductRows in, PatchRows<T> patches, const T* b, T scale, const T* dy, T* dx,
                                        bool accumulate, T* db, int64_t columns) {
  for (int64_t i = thread_index() / warp_size; i < patches.elements(); i += thread_count() / warp_size) {
    const int64_t group = i / patches.n / patches.rows, row = i / patches.n % patches.rows, j = i % patches.n;
    const int64_t begin = row * in.stride + group * in.group_stride + j * in.width;
    const T* g = dy + row * columns + group * in.width;
    const T scaled = scale * patches.at(i);
    T sum = 0;
    for (int64_t k = lane_index(); k < in.width; k += warp_size) {
      if (dx) sum = std::fma(g[k], b[begin + k], sum);
      db[begin + k] = scaled * g[k];
    }
    sum = warp_reduce(sum, Sum());
    if (dx && lane_index() == 0) dx[i] = accumulate ? dx[i] + scale * sum : scale * sum;
  }
}

// The launches of those that every element, or every warp, does alone.
template <class T>
void device_squares(DeviceStream stream, const PatchRows<T>& patches, T scale, T* z) {
  launch(quadratic_squares<T>, blocks_for(patches.elements()), block_size, 0, stream, patches, scale, z);
}
template <class T>
void device_squares_backward(DeviceStream stream, const PatchRows<T>& patches, T scale, const T* dz, T* dx,
                             bool accumulate) {
  launch(quadratic_squares_backward<T>, blocks_for(patches.elements()), block_size, 0, stream, patches, scale, dz, dx,
         accumulate);
}
template <class T>
void device_form_backward(DeviceStream stream, const ProductRows& in, const PatchRows<T>& patches, const T* b, T scale,
                          const T* dy, T* dx, bool accumulate, T* db, int64_t columns) {
  launch(quadratic_form_backward<T>, blocks_for(patches.elements(), block_size / warp_size), block_size, 0, stream, in,
         patches, b, scale, dy, dx, accumulate, db, columns);
}

}  // namespace parabola
