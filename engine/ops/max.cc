#include "engine/ops/max.h"

#include <limits>

#include "engine/core/error.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/groups.h"
#include "engine/ops/maximum.h"

namespace parabola {
namespace {

// `where` is counted from a result's first value.
template <class T>
void forward(const ForwardArgs& args) {
  const Groups groups(args.inputs[0].shape, args.attributes.get<ReduceAttributes>().axes);
  const T* x = args.inputs[0].data<T>();
  T* y = args.outputs[0].data<T>();
  int32_t* where = args.auxiliary[0].data<int32_t>();
  const int64_t count = groups.terms.elements(), result_step = groups.results.step_a(),
                term_step = groups.terms.step_a();
  const auto take = [=](int64_t result, int64_t first, int64_t offset) {
    const T value = x[first + offset];
    const bool larger = exceeds(value, y[result]);
    y[result] = larger ? value : y[result];
    where[result] = larger ? static_cast<int32_t>(offset) : where[result];
  };
  const auto find = [&](int64_t i, int64_t at, int64_t, int64_t results) {
    std::fill_n(y + i, results, -std::numeric_limits<T>::infinity());
    std::fill_n(where + i, results, 0);
    groups.terms.rows_between(0, count, [&](int64_t, int64_t offset, int64_t, int64_t terms) {
      // Inside runs what lies side by side in memory.
      if (term_step == 1) {
        for (int64_t r = 0; r < results; ++r)
          for (int64_t k = 0; k < terms; ++k) take(i + r, at + r * result_step, offset + k);
      } else {
        for (int64_t k = 0; k < terms; ++k)
          for (int64_t r = 0; r < results; ++r) take(i + r, at + r * result_step, offset + k * term_step);
      }
    });
  };
  parallel_for(groups.results.elements(), std::max(column_group, row_grain(count)),
               [&](int64_t begin, int64_t end) { groups.results.rows_between(begin, end, find); });
}

template <class T>
void backward(const BackwardArgs& args) {
  const TensorView& dx = args.input_gradients[0];
  const Groups groups(dx.shape, args.attributes.get<ReduceAttributes>().axes);
  const T* dy = args.output_gradients[0].data<T>();
  const int32_t* where = args.auxiliary[0].data<int32_t>();
  const int64_t step = groups.results.step_a();
  if (!args.accumulates(0)) fill_zeros(dx.data<T>(), dx.shape.elements());
  groups.results.each_row([=, to = dx.data<T>()](int64_t i, int64_t at, int64_t, int64_t results) {
    for (int64_t r = 0; r < results; ++r) to[at + r * step + where[i + r]] += dy[i + r];
  });
}

Layout layout(const Signature& s) {
  const auto& [axes, keep] = s.attributes.get<ReduceAttributes>();
  const Shape& x = s.shape(0);
  if (reduced_shape(x, ~axes, false).elements() == 0)
    fail<ShapeError>("max", "got x of shape ", x, ", expected at least one value to choose from");
  if (x.elements() > std::numeric_limits<int32_t>::max())
    fail<ShapeError>("max", "got x of shape ", x, ", expected less than 2^31 elements");
  const Shape y = reduced_shape(x, axes, keep);
  return {.outputs = {{y, s.dtype()}}, .auxiliary = {{y, DType::i32}}};
}

}  // namespace

const OpDef max_op = {
    .name = "max",
    .layout = layout,
    .cost = [](const Signature& s) { return elementwise_cost(s, 1, 0); },
    .needs = [](const Signature&) { return Needs{.auxiliary = 1}; },
    .cpu = {[](const ForwardArgs& a) { dispatch_float(a.inputs[0].dtype, "max", [&]<class T>() { forward<T>(a); }); },
            [](const BackwardArgs& a) {
              dispatch_float(a.output_gradients[0].dtype, "max", [&]<class T>() { backward<T>(a); });
            }},
};

Tensor max(const Tensor& x, const std::vector<int>& axes, bool keep) {
  return apply(max_op, {x}, reduce_attributes("max", x, axes, keep));
}

}  // namespace parabola
