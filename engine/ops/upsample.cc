#include "engine/ops/upsample.h"

#include "engine/core/error.h"
#include "engine/ops/image_map.h"

namespace parabola {

ImageMap<UpsampleAxis> upsample_map(const Shape& x, const UpsampleAttributes& a) {
  if (x.rank() != 4 || x[1] < 1 || x[2] < 1)
    fail<ShapeError>("upsample", "input: got ", x, ", expected [N, H, W, C] with at least one pixel");
  if (a.rows < 1 || a.columns < 1)
    fail<UsageError>("upsample", "got ", a.rows, " x ", a.columns, " outputs, expected at least one");
  const bool linear = a.mode == Interpolation::bilinear;
  return {x[0], x[3], {x[1], a.rows, linear}, {x[2], a.columns, linear}};
}

namespace {

ImageMap<UpsampleAxis> map_of(const Attributes& attributes, const Shape& x) {
  return upsample_map(x, attributes.get<UpsampleAttributes>());
}

}  // namespace

const OpDef upsample_op = {
    .name = "upsample",
    .layout =
        [](const Signature& s) {
          return Layout{.outputs = {{map_of(s.attributes, s.shape(0)).output_shape(), s.dtype()}}};
        },
    .cost = [](const Signature& s) { return map_image_cost(map_of(s.attributes, s.shape(0)), s.dtype()); },
    .policy = Policy::recompute,
    .cpu = {[](const ForwardArgs& a) {
              dispatch_float(a.inputs[0].dtype, "upsample", [&]<class T>() {
                map_image(map_of(a.attributes, a.inputs[0].shape), a.inputs[0].data<T>(), a.outputs[0].data<T>());
              });
            },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "upsample", [&]<class T>() {
                map_image_backward(map_of(a.attributes, a.inputs[0].shape), a.output_gradients[0].data<T>(),
                                   a.input_gradients[0].data<T>(), a.accumulates(0));
              });
            }},
};

Tensor upsample(const Tensor& x, int64_t rows, int64_t columns, Interpolation mode) {
  return apply(upsample_op, {x}, UpsampleAttributes{rows, columns, mode});
}

}  // namespace parabola
