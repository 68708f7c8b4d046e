// What cross_entropy compares the softmax of a row of logits with, for CPU and CUDA alike: t(row, k), after label
// smoothing s over K classes, (1 - s) t + s / K.
#pragma once
#include <limits>

#include "engine/ops/cross_entropy.h"

namespace parabola {

// 1 at the row's label, 0 elsewhere. On CUDA, where nobody looks, all of a row is NaN if its label is no class.
template <class T>
struct ClassLabels {
  const int32_t* labels;
  int64_t classes;
  T kept, spread;  // 1 - s, s / K
  constexpr T at(int64_t row, int64_t k) const {
    const int64_t label = labels[row];
    if (label < 0 || label >= classes) return std::numeric_limits<T>::quiet_NaN();
    return k == label ? kept + spread : spread;
  }
  // The sum over k by sum(term), in whatever way the device adds up a row; here it is known.
  template <class Sum>
  constexpr T total(int64_t, Sum) const {
    return 1;
  }
};

// A probability for each class of each row; they need not add up to 1.
template <class T>
struct ClassProbabilities {
  const T* probabilities;
  int64_t classes;
  T kept, spread;
  constexpr T at(int64_t row, int64_t k) const { return kept * probabilities[row * classes + k] + spread; }
  template <class Sum>
  constexpr T total(int64_t row, Sum sum) const {
    return sum([this, row](int64_t k) { return at(row, k); });
  }
};

// Calls body with the one or the other.
template <class T, class Body>
void with_targets(const Attributes& attributes, const TensorView& logits, const TensorView& targets, Body&& body) {
  const int64_t classes = logits.shape[1];
  const double smoothing = attributes.get<CrossEntropyAttributes>().label_smoothing;
  const T kept = static_cast<T>(1 - smoothing), spread = static_cast<T>(smoothing / static_cast<double>(classes));
  if (targets.dtype == DType::i32) return body(ClassLabels<T>{targets.data<int32_t>(), classes, kept, spread});
  body(ClassProbabilities<T>{targets.data<T>(), classes, kept, spread});
}

}  // namespace parabola
