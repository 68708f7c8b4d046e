#include "apps/common/op_bench.h"

#include <algorithm>

#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d/batch_norm_relu_conv2d.h"
#include "engine/ops/conv2d/conv2d.h"
#include "engine/ops/cross_entropy.h"
#include "engine/ops/depthwise/depthwise_conv2d.h"
#include "engine/ops/depthwise/quadratic_depthwise_conv2d.h"
#include "engine/ops/dropout.h"
#include "engine/ops/gelu.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/linear.h"
#include "engine/ops/mlp.h"
#include "engine/ops/optimizers.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_normed.h"
#include "engine/ops/quadratic_conv2d/quadratic_conv2d_shared.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/reduce.h"
#include "engine/ops/relu.h"
#include "engine/ops/softmax.h"

namespace parabola {
namespace {

constexpr uint64_t all_inputs(int count) { return (uint64_t{1} << count) - 1; }
const Shape absent{};

std::string image_text(int64_t batch, int64_t channels, int64_t side) {
  return concat("batch ", batch, " of ", side, "x", side, "x", channels, ", ");
}

OpBench convolution(int64_t batch, int64_t in, int64_t out, int64_t side, int64_t kernel, int stride = 1) {
  return {concat(image_text(batch, in, side), kernel, "x", kernel, stride > 1 ? concat(" stride ", stride) : "", " to ",
                 out),
          &conv2d_op,
          ConvAttributes{.stride = stride, .padding = static_cast<int>(kernel / 2)},
          {{batch, side, side, in}, {out, kernel, kernel, in}, absent},
          all_inputs(2)};
}

// Within a residual block: x, the norm's scale, shift and running statistics, a 3x3 kernel.
OpBench normed_convolution(int64_t batch, int64_t channels, int64_t side) {
  const Shape channel{channels};
  return {image_text(batch, channels, side) + "3x3",
          &batch_norm_relu_conv2d_op,
          BatchNormReluConv2dAttributes{.conv = {.padding = 1}},
          {{batch, side, side, channels}, channel, channel, channel, channel, absent, {channels, 3, 3, channels}},
          0b1000111};
}

OpBench depthwise(int64_t batch, int64_t channels, int64_t side, int64_t kernel, int dilation = 1) {
  return {concat(image_text(batch, channels, side), kernel, "x", kernel,
                 dilation > 1 ? concat(" dilation ", dilation) : ""),
          &depthwise_conv2d_op,
          DepthwiseAttributes{.padding = static_cast<int>(kernel / 2) * dilation, .dilation = dilation},
          {{batch, side, side, channels}, {kernel, kernel, channels}, absent},
          all_inputs(2)};
}

// As a layer of its own, or an adapter's: 3x3 with dilation 3, on a 7x7 host that does not train.
OpBench quadratic_depthwise(int64_t batch, int64_t channels, int64_t side, bool adapter) {
  const int64_t factor = adapter ? 3 : 7, rank = adapter ? 2 : 1;
  return {image_text(batch, channels, side) + (adapter ? "7x7 frozen, rank 2 3x3 dilation 3" : "7x7, rank 1"),
          &quadratic_depthwise_conv2d_op,
          QuadraticDepthwiseAttributes{.padding = 3, .quadratic_padding = 3, .quadratic_dilation = adapter ? 3 : 1},
          {{batch, side, side, channels},
           {7, 7, channels},
           absent,
           {rank, factor, factor, channels},
           {rank, factor, factor, channels}},
          adapter ? 0b11001u : 0b11011u};
}

OpBench elementwise(const OpDef& op, const Attributes& attributes, const Shape& shape) {
  return {concat(shape), &op, attributes, {shape}, 1};
}

OpBench normed(const OpDef& op, const Attributes& attributes, int64_t rows, int64_t channels, int statistics) {
  std::vector<Shape> inputs{{rows, channels}, {channels}, {channels}};
  for (int i = 0; i < statistics; ++i) inputs.push_back({channels});
  return {concat("rows ", rows, " of ", channels), &op, attributes, inputs, all_inputs(3)};
}

// As at the end of a residual block: the residual's gradient too.
OpBench residual_norm(int64_t rows, int64_t channels) {
  OpBench norm = normed(batch_norm_op, BatchNormOptions{.relu = true}, rows, channels, 2);
  norm.sizes += " with residual and relu";
  norm.inputs.push_back({rows, channels});
  norm.gradients |= 1 << 5;
  return norm;
}

// x, three kernels, three scales and shifts, three running means and variances.
OpBench quadratic_normed(int64_t batch, int64_t channels, int64_t side) {
  std::vector<Shape> inputs{{batch, side, side, channels}};
  inputs.insert(inputs.end(), 3, Shape{channels, 3, 3, channels});
  inputs.insert(inputs.end(), 12, Shape{channels});
  return {image_text(batch, channels, side) + "3x3", &quadratic_conv2d_normed_op, NormedConvAttributes{.padding = 1},
          inputs, all_inputs(10)};
}

// An update of `count` parameters: no norm to clip by, then each of them in `kinds` kinds: itself, gradient, states.
OpBench optimizer(const OpDef& op, const Attributes& attributes, size_t kinds, size_t count, int64_t elements) {
  std::vector<Shape> inputs(1 + kinds * count, Shape{elements});
  inputs[0] = absent;
  return {concat(count, " parameters of ", elements), &op, attributes, inputs, 0};
}

const std::vector<OpBench>& table() {
  static const ConvAttributes same3x3{.padding = 1};
  static const std::vector<OpBench> rows = {
      convolution(128, 64, 64, 32, 3),
      convolution(128, 16, 16, 32, 3),
      convolution(128, 32, 32, 16, 3),
      convolution(128, 64, 64, 8, 3),
      convolution(128, 64, 256, 16, 1),
      convolution(128, 64, 128, 16, 2, 2),
      normed_convolution(128, 16, 32),
      normed_convolution(128, 64, 8),
      depthwise(128, 64, 16, 7),
      depthwise(32, 128, 16, 7),
      depthwise(32, 128, 16, 3, 3),
      depthwise(32, 128, 16, 3),
      quadratic_depthwise(128, 64, 16, false),
      quadratic_depthwise(128, 64, 16, true),
      {image_text(128, 16, 32) + "3x3 frozen, Q 4",
       &quadratic_conv2d_shared_op,
       QuadraticConvAttributes{same3x3, same3x3, 1},
       {{128, 32, 32, 16}, {16, 3, 3, 16}, absent, {4, 3, 3, 16}, {4, 3, 3, 16}, {16, 4}},
       0b111001},
      {image_text(128, 32, 16) + "3x3, rank 1",
       &quadratic_conv2d_op,
       QuadraticConvAttributes{same3x3, same3x3, 1},
       {{128, 16, 16, 32}, {32, 3, 3, 32}, absent, {1, 32, 3, 3, 32}, {1, 32, 3, 3, 32}},
       0b11011},
      {image_text(128, 32, 16) + "3x3, type 2",
       &quadratic_conv2d_op,
       QuadraticConvAttributes{same3x3, same3x3, 1},
       {{128, 16, 16, 32}, absent, absent, absent, absent, {32, 3, 3, 32}},
       0b100001},
      {image_text(128, 32, 16) + "3x3, type 3",
       &quadratic_conv2d_op,
       QuadraticConvAttributes{same3x3, same3x3, 1},
       {{128, 16, 16, 32}, absent, absent, {1, 32, 3, 3, 32}},
       0b1001},
      quadratic_normed(128, 16, 32),
      quadratic_normed(128, 64, 8),
      {"rows 8192, 256 to 1024", &linear_op, {}, {{8192, 256}, {1024, 256}, {1024}}, all_inputs(3)},
      {"rows 256, 784 to 512", &linear_op, {}, {{256, 784}, {512, 784}, {512}}, all_inputs(3)},
      {"rows 256, 784 to 512, rank 1",
       &quadratic_linear_op,
       QuadraticLinearAttributes{},
       {{256, 784}, {512, 784}, {512}, {1, 512, 784}, {1, 512, 784}},
       all_inputs(5)},
      {"rows 256, 64 to 64, type 1",
       &quadratic_linear_op,
       QuadraticLinearAttributes{},
       {{256, 64}, absent, absent, absent, {64, 64, 64}},
       0b10001},
      {"rows 32768, 64 to 256 to 64", &mlp_op, {}, {{32768, 64}, {256, 64}, {256}, {64, 256}, {64}}, all_inputs(5)},
      {"rows 2048, 256 to 1024 to 256",
       &mlp_op,
       {},
       {{2048, 256}, {1024, 256}, {1024}, {256, 1024}, {256}},
       all_inputs(5)},
      normed(layer_norm_op, LayerNormAttributes{}, 32768, 64, 0),
      normed(batch_norm_op, BatchNormOptions{}, 131072, 64, 2),
      normed(batch_norm_op, BatchNormOptions{}, 131072, 16, 2),
      residual_norm(131072, 64),
      elementwise(gelu_op, {}, {32768, 256}),
      elementwise(relu_op, {}, {32768, 256}),
      elementwise(softmax_op, {}, {8192, 1000}),
      elementwise(dropout_op, DropAttributes{0.1}, {32768, 256}),
      elementwise(mean_op, ReduceAttributes{.axes = 0b110}, {128, 16, 16, 256}),
      optimizer(adamw_op, AdamwAttributes{}, 4, 10, 500'000),
      optimizer(sgd_op, SgdAttributes{.momentum = 0.9}, 3, 10, 500'000),
      {"rows 1024 of 1000 classes", &cross_entropy_op, CrossEntropyAttributes{}, {{1024, 1000}, {1024}}, 1, 0b10},
  };
  return rows;
}

Tensor random_input(const Shape& shape, bool integer, uint32_t which, Device device) {
  if (shape.rank() == 0) return {};
  if (integer) return Tensor::full(shape, 0, DType::i32, Category::inputs).to(device, Category::inputs);
  const Tensor values = Tensor::empty(shape, DType::f32, Category::inputs);
  Random random({.seed = 1, .stream = Stream::data, .item = which});
  for (float& value : values.span<float>()) value = random.uniform() - 0.5f;
  return values.to(device, Category::inputs);
}

std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) {
  std::vector<TensorView> views;
  for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
  return views;
}

std::vector<Tensor> tensors_for(const std::vector<TensorSpec>& specs, Device device) {
  std::vector<Tensor> tensors;
  for (const TensorSpec& spec : specs)
    tensors.push_back(spec.present ? Tensor::full(spec.shape, 0, spec.dtype, Category::activations, device) : Tensor());
  return tensors;
}

}  // namespace

std::vector<OpBench> op_benches(const std::string& op) {
  std::vector<OpBench> chosen;
  std::vector<std::string> names{"all"};
  for (const OpBench& row : table()) {
    if (names.back() != row.op->name) names.emplace_back(row.op->name);
    if (op == "all" || op == row.op->name) chosen.push_back(row);
  }
  if (chosen.empty()) {
    const std::string near = nearest_word(op, names);
    throw UsageError(concat("--op ", printable(op), ": no op that can be timed, expected ", either(names),
                            near.empty() ? "" : "; did you mean " + near + "?"));
  }
  return chosen;
}

Measurement measure_op(const OpBench& bench, int64_t batch, Device device, OpPass pass, double least_seconds) {
  const bool backward = pass != OpPass::forward;
  const OpDef& op = *bench.op;
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < bench.inputs.size(); ++i) {
    const bool integer = bench.integers >> i & 1;
    const Shape& shape = bench.inputs[i];
    const bool of_batch = integer || (shape.rank() > 0 && shape == bench.inputs[0]);
    inputs.push_back(random_input(of_batch ? shape.with(0, batch) : shape, integer, static_cast<uint32_t>(i), device));
  }
  const std::vector<TensorSpec> specs = specs_of(inputs);
  const Signature signature{bench.attributes, specs, backward ? bench.gradients : 0};
  const Layout layout = layout_of(op, signature, device);
  const StepCost cost = op.cost ? op.cost(signature) : StepCost{};
  const Needs needs = op.needs ? op.needs(signature) : Needs{};

  const size_t before = Memory::of(device).activation_bytes();
  const std::vector<Tensor> outputs = tensors_for(layout.outputs, device),
                            auxiliary = tensors_for(layout.auxiliary, device);
  std::vector<Tensor> output_gradients, input_gradients(inputs.size());
  if (backward) {
    output_gradients = tensors_for(layout.outputs, device);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (signature.wants_gradient(static_cast<int>(i)))
        input_gradients[i] = Tensor::empty(inputs[i].shape(), inputs[i].dtype(), Category::activations, device);
  }
  // Backward sees only what it said that it needs, as on a tape.
  const auto needed = [](std::vector<TensorView> views, uint64_t mask) {
    for (size_t i = 0; i < views.size(); ++i)
      if (!(mask >> i & 1)) views[i].pointer = nullptr;
    return views;
  };
  const std::vector<TensorView> in = views_of(inputs), out = views_of(outputs), aux = views_of(auxiliary),
                                dy = views_of(output_gradients), dx = views_of(input_gradients),
                                in_needed = needed(in, needs.inputs), out_needed = needed(out, needs.outputs),
                                aux_needed = needed(aux, needs.auxiliary);
  const RandomKey key{1, Stream::node, 0, 0};
  const size_t held = Memory::of(device).activation_bytes() - before;
  Executor& executor = Executor::instance();
  executor.step.update = 1;  // optimizers count from 1
  const auto run_forward = [&] {
    ForwardArgs args{.attributes = bench.attributes, .inputs = in, .outputs = out, .auxiliary = aux};
    args.random = key;
    executor.forward(op, args, layout.forward_workspace, cost.forward, device);
  };
  const auto run_backward = [&] {
    BackwardArgs args{.attributes = bench.attributes,
                      .inputs = in_needed,
                      .outputs = out_needed,
                      .auxiliary = aux_needed,
                      .output_gradients = dy,
                      .input_gradients = dx};
    args.random = key;
    if (bench.gradients) executor.backward(op, args, layout.backward_workspace, cost.backward, device);
  };
  const auto step = [&] {
    if (pass != OpPass::backward) run_forward();
    if (backward) run_backward();
    return Memory::of(device).activation_bytes();
  };
  Measurement result = pass == OpPass::backward ? measure(device, least_seconds, step, run_forward)
                                                : measure(device, least_seconds, step);
  result.peak_bytes += held;
  result.saved_bytes += held;
  return result;
}

}  // namespace parabola
