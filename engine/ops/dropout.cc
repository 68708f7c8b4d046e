#include "engine/ops/dropout.h"

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

template <bool per_sample>
constexpr const char* name = per_sample ? "drop_path" : "dropout";

// to = mask o from, for values in forward and for gradients in backward. One draw decides about `unit` elements; draw i
// is word i mod 4 of block i / 4.
template <bool per_sample, class T>
void mask(const RandomKey& key, double p, const TensorView& from_view, const TensorView& to_view, bool accumulate) {
  const int64_t elements = from_view.shape.elements(), draws = per_sample ? from_view.shape[0] : elements;
  if (draws == 0) return;
  const int64_t unit = elements / draws, blocks = (draws + 3) / 4;
  const T *from = from_view.data<T>(), scale = static_cast<T>(1 / (1 - p));
  T* to = to_view.data<T>();
  parallel_for(blocks, std::max<int64_t>(1, elementwise_grain / (4 * unit)), [=](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const std::array<uint32_t, 4> words = philox(key, static_cast<uint32_t>(block));
      for (int64_t draw = 4 * block; draw < std::min(draws, 4 * block + 4); ++draw) {
        const bool keep = unit_float(words[static_cast<size_t>(draw % 4)]) >= static_cast<float>(p);
        for (int64_t i = draw * unit; i < (draw + 1) * unit; ++i) {
          const T value = keep ? scale * from[i] : T(0);
          to[i] = accumulate ? to[i] + value : value;
        }
      }
    }
  });
}

template <bool per_sample>
Layout layout(const Signature& s) {
  if (per_sample && s.shape(0).rank() < 1)
    fail<ShapeError>(name<per_sample>, "got a scalar, expected samples on axis 0");
  return same_as_input(s);
}

template <bool per_sample>
constexpr OpDef define() {
  return {
      .name = name<per_sample>,
      .layout = layout<per_sample>,
      .cost = [](const Signature& s) { return elementwise_cost(s, 1, 1); },
      .policy = Policy::recompute,
      .random = true,
      .gradient_in_place = true,
      .cpu = {[](const ForwardArgs& a) {
                dispatch_float(a.inputs[0].dtype, name<per_sample>, [&]<class T>() {
                  mask<per_sample, T>(a.random, a.attributes.get<DropAttributes>().p, a.inputs[0], a.outputs[0], false);
                });
              },
              [](const BackwardArgs& a) {
                dispatch_float(a.output_gradients[0].dtype, name<per_sample>, [&]<class T>() {
                  mask<per_sample, T>(a.random, a.attributes.get<DropAttributes>().p, a.output_gradients[0],
                                      a.input_gradients[0], a.accumulates(0));
                });
              }},
  };
}

template <bool per_sample>
Tensor drop(const OpDef& op, const Tensor& x, double p) {
  if (!(p >= 0 && p < 1)) fail<UsageError>(name<per_sample>, "got p = ", p, ", expected 0 <= p < 1");
  return p == 0 ? x : apply(op, {x}, DropAttributes{p});
}

}  // namespace

const OpDef dropout_op = define<false>();
const OpDef drop_path_op = define<true>();

Tensor dropout(const Tensor& x, double p) { return drop<false>(dropout_op, x, p); }
Tensor drop_path(const Tensor& x, double p) { return drop<true>(drop_path_op, x, p); }

}  // namespace parabola
