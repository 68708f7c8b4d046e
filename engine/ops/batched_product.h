// What batched_matmul is made of on every device: which products its passes are.
#pragma once
#include "engine/blas/gemm.h"
#include "engine/ops/batched_matmul.h"

namespace parabola {

// Matrices that lie one behind the other, each as a factor of a product.
template <class T>
struct Stack {
  Factor<T> matrix;
  int64_t step;

  Stack(const TensorView& view, bool transposed)
      : matrix{view.data<T>(), view.shape.back(), transposed}, step(view.shape[-2] * view.shape.back()) {}
  Factor<T> at(int64_t i) const { return {matrix.data + i * step, matrix.stride, matrix.transposed}; }
  Stack flipped() const {
    Stack result = *this;
    result.matrix.transposed = !matrix.transposed;
    return result;
  }
};

struct BatchedSizes {
  int64_t count, rows, inner, columns;  // op(a) is [rows, inner], op(b) [inner, columns]

  BatchedSizes(const Shape& a, const Shape& b, const BatchedMatmulAttributes& attributes)
      : count(a.product(0, a.rank() - 2)),
        rows(a[attributes.transpose_a ? -1 : -2]),
        inner(a[attributes.transpose_a ? -2 : -1]),
        columns(b[attributes.transpose_b ? -2 : -1]) {}
};

// Calls product(count, m, n, k, op(A), op(B), C, accumulate) for y, for each wanted gradient; C's matrices lie side by
// side.
template <class T, class Product>
void multiply_stacks(const ForwardArgs& args, Product&& product) {
  const auto& attributes = args.attributes.get<BatchedMatmulAttributes>();
  const BatchedSizes z(args.inputs[0].shape, args.inputs[1].shape, attributes);
  product(z.count, z.rows, z.columns, z.inner, Stack<T>(args.inputs[0], attributes.transpose_a),
          Stack<T>(args.inputs[1], attributes.transpose_b), args.outputs[0].data<T>(), false);
}

template <class T, class Product>
void multiply_stacks_backward(const BackwardArgs& args, Product&& product) {
  const auto& attributes = args.attributes.get<BatchedMatmulAttributes>();
  const BatchedSizes z(args.inputs[0].shape, args.inputs[1].shape, attributes);
  const Stack<T> a(args.inputs[0], attributes.transpose_a), b(args.inputs[1], attributes.transpose_b),
      dy(args.output_gradients[0], false);
  T *da = args.input_gradients[0].data<T>(), *db = args.input_gradients[1].data<T>();
  // With y = A B: dA = dy Bᵀ and dB = Aᵀ dy; of what lies there transposed, the transpose.
  if (args.wants(0) && !attributes.transpose_a)
    product(z.count, z.rows, z.inner, z.columns, dy, b.flipped(), da, args.accumulates(0));
  if (args.wants(0) && attributes.transpose_a)
    product(z.count, z.inner, z.rows, z.columns, b, dy.flipped(), da, args.accumulates(0));
  if (args.wants(1) && !attributes.transpose_b)
    product(z.count, z.inner, z.columns, z.rows, a.flipped(), dy, db, args.accumulates(1));
  if (args.wants(1) && attributes.transpose_b)
    product(z.count, z.columns, z.inner, z.rows, dy.flipped(), a, db, args.accumulates(1));
}

}  // namespace parabola
