// Sums over any set of axes: one pass for each group of neighbouring axes that are summed over, innermost group first.
// A pass is a sum over the rows of a stack of matrices (column_stats.h), so its order is fixed by the shape.
#pragma once
#include "engine/ops/axes.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/lanes.h"

namespace parabola {

// What lies in memory, as the terms of a sum.
template <class T>
struct Values {
  const T* data;
  T operator()(int64_t i) const { return data[i]; }
};

class Reduction {
 public:
  Reduction(const Shape& shape, AxisMask axes) {
    // Neighbours of the same kind become one group; axes of size 1 belong to either.
    std::array<int64_t, Shape::max_rank> size{};
    std::array<bool, Shape::max_rank> summed{};
    int groups = 0;
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      const bool sum = axes >> axis & 1;
      if (groups > 0 && summed[groups - 1] == sum) {
        size[groups - 1] *= shape[axis];
      } else {
        size[groups] = shape[axis];
        summed[groups++] = sum;
      }
    }
    int64_t columns = 1, outer = 1;
    for (int g = 0; g < groups; ++g) outer *= size[g];
    const int64_t elements = outer;
    for (int g = groups - 1; g >= 0; --g) {
      if (size[g] > 0) outer /= size[g];
      if (summed[g]) {
        passes_[count_++] = {size[g], columns, outer};
      } else {
        columns *= size[g];
      }
    }
    if (count_ == 0) passes_[count_++] = {1, elements, 1};  // nothing to sum over: a copy
  }

  template <class T>
  size_t workspace() const {
    size_t bytes = 0;
    for (int i = 0; i < count_; ++i) {
      bytes += column_sums_workspace<T>(passes_[i]);
      if (i + 1 < count_) bytes += static_cast<size_t>(results(i)) * sizeof(T);
    }
    return bytes;
  }

  // Sums term(flat index); finish(flat index of the result, sum in double).
  template <class T, class Term, class Finish>
  void run(T* workspace, Term&& term, Finish&& finish) const {
    if (count_ == 1) return sum_pass(passes_[0], workspace, term, finish);
    T* result = workspace;
    const auto store = [&result](int64_t index, double sum) { result[index] = static_cast<T>(sum); };
    sum_pass(passes_[0], result + results(0), term, store);
    for (int i = 1; i < count_; ++i) {
      const Values<T> read{result};
      result += results(i - 1) + partials<T>(i - 1);
      if (i + 1 < count_) {
        sum_pass(passes_[i], result + results(i), read, store);
      } else {
        sum_pass(passes_[i], result, read, finish);
      }
    }
  }

 private:
  int64_t results(int pass) const { return passes_[pass].outer * passes_[pass].columns; }
  template <class T>
  int64_t partials(int pass) const {
    return static_cast<int64_t>(column_sums_workspace<T>(passes_[pass]) / sizeof(T));
  }

  template <class T, class Term, class Finish>
  static void sum_pass(const RowBlocks& pass, T* workspace, Term&& term, Finish&& finish) {
    const auto add_rows = [&](int64_t first, int64_t last, T* partial) {
      if (pass.columns == 1) {
        *partial = lane_sum<T>(last - first, [&](int64_t i) { return term(first + i); });
        return;
      }
      for (int64_t row = first; row < last; ++row) {
        for (int64_t c = 0; c < pass.columns; ++c) partial[c] += term(row * pass.columns + c);
      }
    };
    column_sums<T>(pass, 1, workspace, add_rows, finish);
  }

  std::array<RowBlocks, Shape::max_rank> passes_{};
  int count_ = 0;
};

}  // namespace parabola
