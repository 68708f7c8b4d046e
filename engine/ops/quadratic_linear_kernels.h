// The kernels of quadratic_linear: how its work is cut, and its two passes.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/core/op.h"

namespace parabola::quadratic_linear_kernels {

enum : int { input_x, input_weight, input_bias, input_a, input_b };

struct Problem {
  int64_t rows, C, K, J;
  Tiles down, across;  // the tiles of linear(), so that the linear term has its bits
  int64_t chunk;       // rows whose a_j x and b_j x backward holds at a time

  Problem(const Shape& x, const Shape& a)
      : rows(x.product(0, x.rank() - 1)),
        C(x.back()),
        K(a[1]),
        J(a[0]),
        down(row_tiles(rows)),
        across(column_tiles(K)) {
    constexpr int64_t elements = 1 << 20;  // of both factors: 4 MiB of floats, which stay in the last level of cache
    chunk = std::max<int64_t>(1, elements / std::max<int64_t>(1, 2 * J * K) / down.size) * down.size;
  }
};

size_t forward_workspace(const Problem& problem, DType dtype, int variant);
size_t backward_workspace(const Problem& problem, DType dtype, uint64_t gradient_mask);

template <class T>
void forward(const ForwardArgs& args);
template <class T>
void backward(const BackwardArgs& args);

}  // namespace parabola::quadratic_linear_kernels
