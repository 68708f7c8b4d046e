#include "tests/ops/run_case.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/unary.h"

namespace parabola::test {

Array array_of(const Tensor& tensor) {
  Array values;
  if (!tensor) return values;
  const Tensor here = tensor.on_cpu();
  for (int64_t i = 0; i < here.elements(); ++i) values.push_back(here.at(i));
  return values;
}

namespace {

Layout projection_layout(const Signature& s) { return {.outputs = {{Shape{}, s.dtype()}}}; }

Tensor tensor_of(const Array& values, const Shape& shape, DType dtype, const RunOptions& options) {
  const Tensor exact = Tensor::from(values, shape).to(dtype, Category::inputs);
  const Tensor room = Tensor::empty({shape.elements() + options.offset}, dtype, Category::inputs, options.device);
  const Tensor tensor = room.view(shape, options.offset);
  tensor.copy_from(exact);
  return tensor;
}

}  // namespace

void (*reverse_order)(bool) = nullptr;

const OpDef projection_op = {
    .name = "test_projection",
    .layout = projection_layout,
    .needs = [](const Signature&) { return Needs{.inputs = 2}; },
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "test_projection", [&]<class T>() {
                double sum = 0;
                for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i)
                  sum += static_cast<double>(a.inputs[0].data<T>()[i]) * static_cast<double>(a.inputs[1].data<T>()[i]);
                *a.outputs[0].data<T>() = static_cast<T>(sum);
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.inputs[1].dtype, "test_projection", [&]<class T>() {
                for (int64_t i = 0; i < a.inputs[0].shape.elements(); ++i) {
                  const T d = *a.output_gradients[0].data<T>() * a.inputs[1].data<T>()[i];
                  T& dx = a.input_gradients[0].data<T>()[i];
                  dx = a.accumulates(0) ? dx + d : d;
                }
              });
            }},
};

const OpDef sum_losses_op = {
    .name = "test_sum_losses",
    .layout = projection_layout,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "test_sum_losses", [&]<class T>() {
                T sum = 0;
                for (const TensorView& input : a.inputs) sum += *input.data<T>();
                *a.outputs[0].data<T>() = sum;
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "test_sum_losses", [&]<class T>() {
                for (size_t i = 0; i < a.input_gradients.size(); ++i)
                  if (a.wants(static_cast<int>(i))) *a.input_gradients[i].data<T>() = *a.output_gradients[0].data<T>();
              });
            }},
};

std::vector<Array> make_inputs(const OpCase& c) {
  std::vector<Array> arrays;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    Array values;
    if (!input.absent)
      values = random_array(input.shape.elements(), input.low, input.high, static_cast<uint32_t>(i), input.kink);
    if (input.classes > 0)
      for (size_t k = 0; k < values.size(); ++k)
        values[k] = static_cast<double>((k * 7 + 3) % static_cast<size_t>(input.classes));
    arrays.push_back(values);
  }
  return arrays;
}

bool wants_any_gradient(const OpCase& c) {
  return std::ranges::any_of(c.inputs, [](const Input& i) { return i.gradient && !i.absent && i.classes == 0; });
}

Run run_case(const OpCase& c, const std::vector<Array>& arrays, const RunOptions& options) {
  set_threads(options.threads);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    if (input.absent) {
      inputs.emplace_back();
    } else if (input.classes > 0) {
      const std::vector<int32_t> labels(arrays[i].begin(), arrays[i].end());
      inputs.push_back(Tensor::from(labels, input.shape).to(options.device, Category::inputs));
    } else {
      inputs.push_back(tensor_of(arrays[i], input.shape, options.dtype, options));
      const bool wanted = input.gradient && (!options.only || *options.only == i);
      if (wanted) inputs.back().set_requires_gradient(true);
    }
  }
  Run run;
  for (int repeat = 0; repeat < options.backwards; ++repeat) {
    run.outputs.clear();
    Tape tape({.checkpoint = options.checkpoint, .seed = 7, .step = 3});
    std::vector<Tensor> losses;
    {
      std::vector<Tensor> operands = inputs;
      for (Tensor& operand : operands)
        if (options.activations && operand && operand.requires_gradient()) operand = neg(neg(operand));
      const std::vector<Tensor> outputs = parabola::apply(*c.op, operands, c.attributes);
      for (size_t k = 0; k < outputs.size(); ++k) {
        run.outputs.push_back(array_of(outputs[k]));
        const Array weights = random_array(outputs[k].elements(), -1, 1, 1000 + static_cast<uint32_t>(k));
        losses.push_back(
            apply(projection_op, {outputs[k], tensor_of(weights, outputs[k].shape(), outputs[k].dtype(), options)}));
      }
    }  // the outputs' handles die here, so that the policy decides what stays
    const Tensor loss = losses.empty() ? Tensor() : parabola::apply(sum_losses_op, losses)[0];
    if (loss) run.loss = loss.item();
    if (options.gradients && loss) tape.backward(loss);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    run.gradients.push_back(inputs[i] && inputs[i].requires_gradient() ? array_of(inputs[i].gradient()) : Array());
    if (c.op->mutates >> i & 1) run.changed.push_back(array_of(inputs[i]));
  }
  return run;
}

}  // namespace parabola::test
