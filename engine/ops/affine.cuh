// y = x op(w) + bias and the gradient of the bias on CUDA: what linear and the linear term of every quadratic op call,
// so that both have the same bits.
#pragma once
#include "engine/blas/gemm.cuh"
#include "engine/ops/column_grid.cuh"
#include "engine/ops/column_sums.cuh"

namespace parabola {

// y [rows, columns]: the bias in every row, or zeros where there is none.
template <class T>
__global__ void affine_start(const T* bias, T* y, int64_t rows, int64_t columns) {
  const int64_t c = thread_index();
  if (c >= columns) return;
  const T value = bias ? bias[c] : T(0);
  for (int64_t row = thread_row(); row < rows; row += row_count()) y[row * columns + c] = value;
}

// y [rows, outputs] = x op(w) + bias, op(w) [inputs, outputs]; without the product where w.data is null, without a bias
// where that is. A bias is what the product is added to: so it costs one write, and no pass over a finished y.
template <class T>
void device_affine(DeviceStream stream, int64_t rows, int64_t outputs, int64_t inputs, const Factor<T>& x,
                   const Factor<T>& w, const T* bias, T* y) {
  if (bias || !w.data) launch_on_columns(affine_start<T>, stream, rows, outputs, bias, y, rows, outputs);
  if (w.data) device_gemm(stream, rows, outputs, inputs, x, w, y, outputs, bias != nullptr);
}

template <class T>
struct BiasTerm {
  const T* dy;
  int64_t columns;
  __device__ void add(int64_t row, int64_t c, Compute<T> (&sum)[1]) const {
    sum[0] += static_cast<Compute<T>>(dy[row * columns + c]);
  }
};

template <class T>
struct BiasGradient {
  T* db;
  bool accumulate;
  __device__ void set(int64_t c, double sum) const {
    db[c] = T(static_cast<Compute<T>>(accumulate ? static_cast<double>(db[c]) + sum : sum));
  }
};

// db [columns] = or += the column sums of dy [rows, columns].
template <class T>
void device_bias_gradient(DeviceStream stream, const T* dy, int64_t rows, int64_t columns, T* db, bool accumulate,
                          std::byte* workspace) {
  device_column_sums<1, T>(stream, {rows, columns}, workspace, BiasTerm<T>{dy, columns},
                           BiasGradient<T>{db, accumulate});
}

template <class T>
size_t device_bias_gradient_workspace(int64_t rows, int64_t columns) {
  return ColumnParts{rows, columns}.workspace<T>(1);
}

}  // namespace parabola
