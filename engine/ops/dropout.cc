#include "engine/ops/dropout.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {
namespace {

template <bool per_sample>
constexpr const char* name = per_sample ? "drop_path" : "dropout";

// to = mask o from, or +=, for values in forward and for gradients in backward. Draw i, word i mod 4 of block i / 4,
// decides about element i, or about sample i.
template <class T>
struct Masked {
  const T* from;
  T *to, scale;
  bool accumulate;
  void set(int64_t begin, int64_t end, auto&& keeps) const {
    store_or_add(to, accumulate, begin, end, [=, this](int64_t i) { return keeps(i) ? scale * from[i] : T(0); });
  }
};

// First the draws of 16 blocks, then their elements, in a loop that the compiler can vectorise.
template <class T>
void mask_elements(const RandomKey& key, float p, int64_t elements, const Masked<T>& masked) {
  constexpr int64_t group = 64;
  parallel_for((elements + group - 1) / group, elementwise_grain / group, [=](int64_t first, int64_t last) {
    for (int64_t begin = first * group; begin < std::min(elements, last * group); begin += group) {
      uint32_t draws[group];
      for (int64_t i = 0; i < group; i += 4) {
        const std::array<uint32_t, 4> words = philox(key, static_cast<uint32_t>((begin + i) / 4));
        for (size_t k = 0; k < 4; ++k) draws[static_cast<size_t>(i) + k] = words[k];
      }
      masked.set(begin, std::min(elements, begin + group),
                 [&](int64_t i) { return unit_float(draws[i - begin]) >= p; });
    }
  });
}

template <class T>
void mask_samples(const RandomKey& key, float p, int64_t samples, int64_t elements, const Masked<T>& masked) {
  const int64_t unit = elements / std::max<int64_t>(1, samples);
  parallel_for(
      samples, std::max<int64_t>(1, elementwise_grain / std::max<int64_t>(1, unit)), [=](int64_t first, int64_t last) {
        for (int64_t sample = first; sample < last; ++sample) {
          const uint32_t word = philox(key, static_cast<uint32_t>(sample / 4))[static_cast<size_t>(sample % 4)];
          const bool keep = unit_float(word) >= p;
          masked.set(sample * unit, (sample + 1) * unit, [=](int64_t) { return keep; });
        }
      });
}

template <bool per_sample, class T>
void mask(const RandomKey& key, double p, const TensorView& from, const TensorView& to, bool accumulate) {
  const Masked<T> masked{from.data<T>(), to.data<T>(), static_cast<T>(1 / (1 - p)), accumulate};
  const auto threshold = static_cast<float>(p);
  if constexpr (per_sample)
    mask_samples(key, threshold, from.shape[0], from.shape.elements(), masked);
  else
    mask_elements(key, threshold, from.shape.elements(), masked);
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
      .gradient_in_place = 0,
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
