#include "engine/ops/batched_matmul.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/batched_product.h"
#include "engine/ops/checks.h"

namespace parabola {
namespace {

// `count` products, whose tiles all threads share.
template <class T>
void product(int64_t count, int64_t m, int64_t n, int64_t k, const Stack<T>& a, const Stack<T>& b, T* c,
             bool accumulate) {
  const Tiles down = row_tiles(m), across = column_tiles(n);
  const int64_t tiles = down.number() * across.number();
  thread_pool().run(count * tiles, [&](int64_t task, int) {
    const int64_t which = task / tiles, row = task % tiles / across.number(), column = task % across.number();
    const int64_t i = down.begin(row), j = across.begin(column);
    tile_product(down.length(row), across.length(column), k, a.at(which).at(i, 0), b.at(which).at(0, j),
                 c + (which * m + i) * n + j, n, accumulate);
  });
}

BatchedSizes checked_sizes(const Signature& s) {
  const Shape &a = s.shape(0), &b = s.shape(1);
  const auto& attributes = s.attributes.get<BatchedMatmulAttributes>();
  if (a.rank() < 2) fail<ShapeError>("batched_matmul", "first factor: got ", a, ", expected [..., M, C]");
  const int64_t inner = a[attributes.transpose_a ? -2 : -1];
  const auto leading = [](const Shape& shape) { return shape.sizes().first(static_cast<size_t>(shape.rank() - 2)); };
  if (b.rank() != a.rank() || b[attributes.transpose_b ? -1 : -2] != inner ||
      !std::ranges::equal(leading(a), leading(b)))
    fail<ShapeError>("batched_matmul", "second factor: got ", b, " for a first one of ", a,
                     attributes.transpose_a ? " transposed" : "", ", expected the same leading axes and ", inner,
                     attributes.transpose_b ? " columns" : " rows");
  require_one_dtype("batched_matmul", s);
  return {a, b, attributes};
}

Layout layout(const Signature& s) {
  const BatchedSizes z = checked_sizes(s);
  return {.outputs = {{s.shape(0).with(-2, z.rows).with(-1, z.columns), s.dtype()}}};
}

StepCost cost(const Signature& s) {
  const BatchedSizes z = checked_sizes(s);
  const auto a = static_cast<double>(s.inputs[0].bytes()), b = static_cast<double>(s.inputs[1].bytes());
  const double results = static_cast<double>(z.count * z.rows) * static_cast<double>(z.columns);
  const double y = results * static_cast<double>(size_of(s.dtype())),
               flops = 2 * results * static_cast<double>(z.inner);
  StepCost cost{.forward = {flops, a + b, y}};
  add_backward(cost, s, 0, {flops, y + b, a});
  add_backward(cost, s, 1, {flops, y + a, b});
  return cost;
}

}  // namespace

const OpDef batched_matmul_op = {
    .name = "batched_matmul",
    .layout = layout,
    .cost = cost,
    .needs =
        [](const Signature& s) {
          return Needs{.inputs = (s.wants_gradient(1) ? uint64_t{1} : 0) | (s.wants_gradient(0) ? uint64_t{2} : 0)};
        },
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "batched_matmul",
                             [&]<class T>() { multiply_stacks<T>(a, product<T>); });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "batched_matmul",
                             [&]<class T>() { multiply_stacks_backward<T>(a, product<T>); });
            }},
};

Tensor batched_matmul(const Tensor& a, const Tensor& b, const BatchedMatmulAttributes& attributes) {
  return apply(batched_matmul_op, {a, b}, attributes);
}

}  // namespace parabola
