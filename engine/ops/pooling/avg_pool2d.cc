#include "engine/ops/pooling/avg_pool2d.h"

#include "engine/ops/image_map.h"

namespace parabola {
namespace {

// Two ops that differ in where their windows are, by their attributes.
template <class Own>
constexpr const char* name = std::is_same_v<Own, PoolAttributes> ? "avg_pool2d" : "adaptive_avg_pool2d";

template <class Own>
PoolGeometry geometry_of(const Attributes& attributes, const Shape& x) {
  return pool_geometry(name<Own>, x, attributes.get<Own>());
}

template <class Own>
constexpr OpDef define() {
  return {
      .name = name<Own>,
      .layout =
          [](const Signature& s) {
            return Layout{.outputs = {{geometry_of<Own>(s.attributes, s.shape(0)).output_shape(), s.dtype()}}};
          },
      .cost = [](const Signature& s) { return map_image_cost(geometry_of<Own>(s.attributes, s.shape(0)), s.dtype()); },
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<Own>, [&]<class T>() {
                  map_image(geometry_of<Own>(a.attributes, a.inputs[0].shape), a.inputs[0].data<T>(),
                            a.outputs[0].data<T>());
                });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<Own>, [&]<class T>() {
                  map_image_backward(geometry_of<Own>(a.attributes, a.inputs[0].shape), a.output_gradients[0].data<T>(),
                                     a.input_gradients[0].data<T>(), a.accumulates(0));
                });
              }},
  };
}

}  // namespace

const OpDef avg_pool2d_op = define<PoolAttributes>();
const OpDef adaptive_avg_pool2d_op = define<AdaptivePoolAttributes>();

Tensor avg_pool2d(const Tensor& x, const PoolAttributes& attributes) { return apply(avg_pool2d_op, {x}, attributes); }

Tensor adaptive_avg_pool2d(const Tensor& x, int64_t rows, int64_t columns) {
  return apply(adaptive_avg_pool2d_op, {x}, AdaptivePoolAttributes{rows, columns});
}

}  // namespace parabola
