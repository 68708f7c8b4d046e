#include "engine/ops/view.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

Layout layout(const Signature& s) {
  const auto& [shape, offset] = s.attributes.get<ViewAttributes>();
  const int64_t elements = s.shape(0).elements();
  if (offset < 0 || offset > elements || shape.elements() > elements - offset) {
    fail<ShapeError>("view", "got shape ", shape, " from element ", offset, " on, expected a range inside of the ",
                     elements, " elements of ", s.shape(0));
  }
  return {.outputs = {{shape, s.dtype()}}, .view_offset = offset};
}

template <class T>
void backward(const BackwardArgs& args) {
  const int64_t offset = args.attributes.get<ViewAttributes>().offset,
                count = args.output_gradients[0].shape.elements();
  const T* dy = args.output_gradients[0].data<T>();
  T* dx = args.input_gradients[0].data<T>();
  const bool accumulate = args.accumulates(0);
  parallel_for(count, elementwise_grain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dx[offset + i] = accumulate ? dx[offset + i] + dy[i] : dy[i];
  });
  if (accumulate) return;
  std::fill_n(dx, offset, T(0));
  std::fill(dx + offset + count, dx + args.input_gradients[0].shape.elements(), T(0));
}

}  // namespace

const OpDef view_op = {
    .name = "view",
    .layout = layout,
    .view = true,
    .cpu = {nullptr,
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "view", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor view(const Tensor& x, const Shape& shape, int64_t offset) {
  return apply(view_op, {x}, ViewAttributes{shape, offset});
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  if (shape.elements() != x.elements()) {
    fail<ShapeError>("reshape", "got shape ", shape, " for ", x.elements(), " elements of ", x.shape());
  }
  return view(x, shape);
}

}  // namespace parabola
