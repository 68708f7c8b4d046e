#include "engine/ops/one_hot.h"

#include <algorithm>

#include "engine/core/error.h"

namespace parabola {
namespace {

void forward(const ForwardArgs& args) {
  const int64_t rows = args.inputs[0].shape.elements(), classes = args.outputs[0].shape.back();
  const int32_t* labels = args.inputs[0].data<int32_t>();
  dispatch_any_float(args.outputs[0].dtype, "one_hot", [&]<class T>() {
    T* y = args.outputs[0].data<T>();
    std::fill_n(y, rows * classes, T(0));
    for (int64_t row = 0; row < rows; ++row) {
      if (labels[row] < 0 || labels[row] >= classes)
        fail<UsageError>("one_hot", "label out of range: got ", labels[row], " in row ", row, ", expected 0 to ",
                         classes - 1);
      y[row * classes + labels[row]] = T(1);
    }
  });
}

Layout layout(const Signature& s) {
  const auto& [classes, dtype] = s.attributes.get<OneHotAttributes>();
  if (s.dtype() != DType::i32)
    fail<DTypeError>("one_hot", "got labels of dtype ", name_of(s.dtype()), ", expected i32");
  if (!is_floating(dtype)) fail<DTypeError>("one_hot", "got dtype ", name_of(dtype), ", expected a floating one");
  if (classes < 1) fail<ShapeError>("one_hot", "got ", classes, " classes, expected at least one");
  std::vector<int64_t> sizes(s.shape(0).sizes().begin(), s.shape(0).sizes().end());
  sizes.push_back(classes);
  return {.outputs = {{Shape(std::span<const int64_t>(sizes)), dtype}}};
}

}  // namespace

const OpDef one_hot_op = {
    .name = "one_hot",
    .layout = layout,
    .cost =
        [](const Signature& s) {
          const auto y = static_cast<double>(layout(s).outputs[0].bytes());
          return StepCost{.forward = {0, static_cast<double>(s.inputs[0].bytes()), y}};
        },
    .policy = Policy::recompute,
    .cpu = {forward},
};

Tensor one_hot(const Tensor& labels, int64_t classes, DType dtype) {
  return apply(one_hot_op, {labels}, OneHotAttributes{classes, dtype});
}

}  // namespace parabola
