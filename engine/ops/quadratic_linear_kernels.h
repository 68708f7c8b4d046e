// The kernels of quadratic_linear: how its work is cut, and its two passes.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/quadratic_term.h"

namespace parabola::quadratic_linear_kernels {

enum : int { input_x, input_weight, input_bias, input_a, input_b, input_square };

struct Problem {
  int64_t rows, C, K, J;  // J = 0: no product
  bool has_a, has_b, has_square;
  Tiles down, across;  // the tiles of linear(), but for a form
  int64_t chunk;       // rows whose a_j x and b_j x backward holds at a time

  // From a signature or the arguments of a kernel. The shapes of a, b and square are checked before.
  template <class From>
  explicit Problem(const From& from) {
    const auto shape = [&](int i) {  // of rank 0 where input i is absent
      return static_cast<size_t>(i) < from.inputs.size() ? from.inputs[static_cast<size_t>(i)].shape : Shape{};
    };
    set(shape(input_x), shape(input_a), shape(input_b), shape(input_square));
  }

  bool form() const { return has_b && !has_a; }                        // type 1: a_j x is x_j
  bool squared() const { return has_a && !has_b; }                     // type 3: b_j x is a_j x
  int64_t factors() const { return int64_t{has_a} + int64_t{has_b}; }  // that there are products of
  int64_t width() const { return factors() * J * K; }                  // of a row of them: all a_j x, then all b_j x
  // The products in such rows, of which the first one begins at `products`.
  template <class T>
  FactorTile<T> tile(T* products) const {
    return {products, products + (factors() == 2 ? J * K : 0), J, width(), K};
  }

 private:
  void set(const Shape& x, const Shape& a, const Shape& b, const Shape& square);
};

// Whose gradients are wanted, and which products they are made of.
struct Wanted {
  bool x, weight, bias, a, b, square;
  bool products, squares;       // any that the product has a part in, or the square weight
  bool a_products, b_products;  // a_j x, b_j x: backward reads them
  Wanted(const Problem& p, uint64_t mask);
  Wanted(const Problem& p, const BackwardArgs& args);
};

// Pointers to the inputs; null where one is absent or, in backward, not needed.
template <class T>
struct Inputs {
  const T *x, *weight, *bias, *a, *b, *square;
  T scale;
  template <class Args>
  explicit Inputs(const Args& args)
      : scale(static_cast<T>(args.attributes.template get<QuadraticLinearAttributes>().scale)) {
    const auto input = [&](size_t i) { return i < args.inputs.size() ? args.inputs[i].template data<T>() : nullptr; };
    x = input(input_x), weight = input(input_weight), bias = input(input_bias);
    a = input(input_a), b = input(input_b), square = input(input_square);
  }
};

// Rows [i, i + rows), columns [j, j + columns) of every a_j x, or b_j x: in one product where the columns are all.
template <class T>
void factor_products(const Problem& p, const T* x, const T* factor, int64_t i, int64_t rows, int64_t j, int64_t columns,
                     T* out, const FactorTile<T>& strides) {
  const bool stacked = columns == p.K;
  for (int64_t rank = 0; rank < (stacked ? 1 : p.J); ++rank)
    tile_product(rows, stacked ? p.J * p.K : columns, p.C, {x + i * p.C, p.C},
                 {factor + (rank * p.K + j) * p.C, p.C, true}, out + rank * strides.rank_stride, strides.row_stride,
                 false);
}

// The products that variant 1 keeps, from row i and column j on.
template <class T, class Args>
FactorTile<T> kept_products(const Problem& p, const Args& args, int64_t i, int64_t j) {
  return p.tile(args.auxiliary[0].template data<T>() + i * p.width() + j);
}

size_t forward_workspace(const Problem& problem, DType dtype, int variant);
size_t backward_workspace(const Problem& problem, DType dtype, uint64_t gradient_mask);

template <class T>
void forward(const ForwardArgs& args);
template <class T>
void backward(const BackwardArgs& args);

}  // namespace parabola::quadratic_linear_kernels
