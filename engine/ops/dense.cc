#include "engine/ops/dense.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/bias.h"
#include "engine/ops/checks.h"

namespace parabola {
namespace {

template <class T>
void forward(const DenseOp& op, const ForwardArgs& args) {
  const auto [rows, inputs, outputs] = op.sizes(args.inputs[0].shape, args.inputs[1].shape);
  const Factor<T> x{args.inputs[0].data<T>(), inputs}, w = op.weight<T>(args.inputs[1]);
  const T* bias = args.inputs.size() > 2 ? args.inputs[2].data<T>() : nullptr;
  T* y = args.outputs[0].data<T>();
  const ProductTiles tiles = product_tiles(rows, outputs);
  thread_pool().run(tiles.number(), [&, n = outputs, k = inputs](int64_t task, int) {
    const ProductTile tile = tiles.at(task);
    tile_product(tile.rows, tile.columns, k, x.at(tile.i, 0), w.at(0, tile.j), y + tile.i * n + tile.j, n, false,
                 bias ? bias + tile.j : nullptr);
  });
}

template <class T>
void backward(const DenseOp& op, const BackwardArgs& args) {
  const auto [rows, inputs, outputs] = op.sizes(args.inputs[0].shape, args.inputs[1].shape);
  const T *x = args.inputs[0].data<T>(), *dy = args.output_gradients[0].data<T>();
  T* workspace = reinterpret_cast<T*>(args.workspace);
  if (args.wants(0))
    gemm(rows, inputs, outputs, {dy, outputs}, op.weight<T>(args.inputs[1], true), args.input_gradients[0].data<T>(),
         args.accumulates(0), workspace);
  if (args.wants(1) && op.transposed)
    gemm(outputs, inputs, rows, {dy, outputs, true}, {x, inputs}, args.input_gradients[1].data<T>(),
         args.accumulates(1), workspace);
  if (args.wants(1) && !op.transposed)
    gemm(inputs, outputs, rows, {x, inputs, true}, {dy, outputs}, args.input_gradients[1].data<T>(),
         args.accumulates(1), workspace);
  if (args.input_gradients.size() > 2 && args.wants(2))
    bias_gradient(dy, rows, outputs, args.input_gradients[2].data<T>(), args.accumulates(2), workspace);
}

DenseSizes checked_sizes(const DenseOp& op, const Signature& s) {
  if (s.shape(0).rank() < 1) fail<ShapeError>(op.name, "input: got a scalar, expected [..., C]");
  const int64_t inputs = s.shape(0).back();
  if (s.shape(1).rank() != 2 || s.shape(1)[op.transposed ? 1 : 0] != inputs)
    fail<ShapeError>(op.name, op.transposed ? "weight: got " : "second factor: got ", s.shape(1),
                     " for an input of shape ", s.shape(0), ", expected ", op.transposed ? "[K, " : "[", inputs,
                     op.transposed ? "]" : ", K]");
  const DenseSizes sizes = op.sizes(s.shape(0), s.shape(1));
  require_shape(op.name, s, 2, "bias", {sizes.outputs});
  require_one_dtype(op.name, s);
  return sizes;
}

}  // namespace

Layout DenseOp::layout(const Signature& s) const {
  const auto [rows, inputs, outputs] = checked_sizes(*this, s);
  int64_t workspace = 0;
  if (s.wants_gradient(0)) workspace = gemm_workspace(rows, inputs, outputs);
  if (s.wants_gradient(1))
    workspace =
        std::max(workspace, transposed ? gemm_workspace(outputs, inputs, rows) : gemm_workspace(inputs, outputs, rows));
  if (s.wants_gradient(2)) workspace = std::max(workspace, bias_gradient_workspace(rows, outputs));
  return {.outputs = {{s.shape(0).with(-1, outputs), s.dtype()}},
          .backward_workspace = static_cast<size_t>(workspace) * size_of(s.dtype())};
}

StepCost DenseOp::cost(const Signature& s) const {
  const auto [rows, inputs, outputs] = checked_sizes(*this, s);
  const double outputs_in_all = static_cast<double>(rows) * static_cast<double>(outputs);
  const double flops = 2 * outputs_in_all * static_cast<double>(inputs);
  const double x = static_cast<double>(s.inputs[0].bytes()), w = static_cast<double>(s.inputs[1].bytes());
  const double y = outputs_in_all * static_cast<double>(size_of(s.dtype()));
  StepCost cost{.forward = {flops, x + w, y}};
  add_backward(cost, s, 0, {flops, y + w, x});
  add_backward(cost, s, 1, {flops, y + x, w});
  add_backward(cost, s, 2, {outputs_in_all, y, 0});
  return cost;
}

Needs DenseOp::needs(const Signature& s) const {
  return {.inputs = (s.wants_gradient(1) ? uint64_t{1} : 0) | (s.wants_gradient(0) ? uint64_t{2} : 0)};
}

void DenseOp::forward(const ForwardArgs& args) const {
  dispatch_float(args.inputs[0].dtype, name, [&]<class T>() { parabola::forward<T>(*this, args); });
}

void DenseOp::backward(const BackwardArgs& args) const {
  dispatch_float(args.output_gradients[0].dtype, name, [&]<class T>() { parabola::backward<T>(*this, args); });
}

}  // namespace parabola
