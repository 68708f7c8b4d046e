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
  // Compiled once, not at each of its uses: they are many, and it takes no time.
  [[gnu::noinline]] Reduction(const Shape& shape, AxisMask axes) {
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
  void run(T* workspace, const Term& term, const Finish& finish) const {
    T* result = workspace;  // of the pass under way, unless it is the last one
    const auto store = [&](int64_t index, int64_t count, const double* sums) {
      for (int64_t k = 0; k < count; ++k) result[index + k] = static_cast<T>(sums[k]);
    };
    const auto finish_each = [&](int64_t index, int64_t count, const double* sums) {
      for (int64_t k = 0; k < count; ++k) finish(index + k, sums[k]);
    };
    const auto sum_pass = [&](int i, AddRows<T> add_rows) {
      if (i + 1 == count_) return run_column_sums(passes_[i], 1, result, add_rows, finish_each);
      run_column_sums(passes_[i], 1, result + results(i), add_rows, store);
    };
    sum_pass(0, add_terms<T>(passes_[0], term));
    for (int i = 1; i < count_; ++i) {
      const T* source = result;
      result += results(i - 1) + partials<T>(i - 1);
      sum_pass(i, add_terms<T>(passes_[i], Values<T>{source}));
    }
  }

 private:
  int64_t results(int pass) const { return passes_[pass].outer * passes_[pass].columns; }
  template <class T>
  int64_t partials(int pass) const {
    return static_cast<int64_t>(column_sums_workspace<T>(passes_[pass]) / sizeof(T));
  }

  template <class T, class Term>
  static auto add_terms(const RowBlocks& pass, const Term& term) {
    return [columns = pass.columns, term](int64_t first, int64_t last, T* partial) {
      if (columns == 1) {
        *partial = lane_sum<T>(last - first, [=](int64_t i) { return term(first + i); });
        return;
      }
      for (int64_t row = first; row < last; ++row) {
        for (int64_t c = 0; c < columns; ++c) partial[c] += term(row * columns + c);
      }
    };
  }

  std::array<RowBlocks, Shape::max_rank> passes_{};
  int count_ = 0;
};

}  // namespace parabola
