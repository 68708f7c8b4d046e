// Walking through two tensors side by side, each with strides of its own: broadcasting (stride 0 repeats a value), and
// the ops that only move values (slice, concat, pad, permute).
#pragma once
#include <algorithm>
#include <array>
#include <numeric>

#include "engine/core/thread_pool.h"
#include "engine/ops/elementwise.h"

namespace parabola {

using Strides = std::array<int64_t, Shape::max_rank>;

// Of a contiguous tensor, in elements.
[[gnu::noinline]] inline Strides strides_of(const Shape& shape) {
  Strides strides{};
  for (int axis = 0; axis < shape.rank(); ++axis) strides[axis] = shape.product(axis + 1, shape.rank());
  return strides;
}

// Of a contiguous tensor of shape `from` when it is read as if it were `to`: trailing axes aligned, 0 where a value
// repeats.
[[gnu::noinline]] inline Strides broadcast_strides(const Shape& from, const Shape& to) {
  Strides strides{};
  const Strides own = strides_of(from);
  const int shift = to.rank() - from.rank();
  for (int axis = 0; axis < from.rank(); ++axis) {
    if (from[axis] == to[shift + axis]) strides[shift + axis] = own[axis];
  }
  return strides;
}

// Where the element with these indices lies.
inline int64_t place_of(const std::array<int64_t, Shape::max_rank>& indices, const Strides& strides) {
  return std::inner_product(indices.begin(), indices.end(), strides.begin(), int64_t{0});
}

class Walk {
 public:
  struct Axis {
    int64_t size, a, b;
  };

  // Through the index space `shape`, row-major. Axes that both operands run through in one stride become one, so that
  // the innermost, a *row*, is as long as can be: the same shape twice is a single row, [N, H, W, C] with [C] rows of
  // C. (Compiled once, not at each of its uses: they are many, and it takes no time.)
  [[gnu::noinline]] Walk(const Shape& shape, const Strides& a, const Strides& b) : elements_(shape.elements()) {
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      if (shape[axis] == 1) continue;
      if (Axis& inner = axes_[std::max(0, rank_ - 1)];
          rank_ > 0 && a[axis] == inner.size * inner.a && b[axis] == inner.size * inner.b) {
        inner.size *= shape[axis];
      } else {
        axes_[rank_++] = {shape[axis], a[axis], b[axis]};
      }
    }
    if (rank_ == 0) axes_[rank_++] = {1, 1, 1};
  }

  int64_t elements() const { return elements_; }
  std::span<const Axis> axes() const { return {axes_.data(), static_cast<size_t>(rank_)}; }  // innermost first
  int64_t step_a() const { return axes_[0].a; }                                              // within a row
  int64_t step_b() const { return axes_[0].b; }

  // Calls row(index, a, b, count) for all rows and parts of rows, on all threads: `count` elements from flat index
  // `index` on; a and b are where the operands stand.
  template <class Row>
  void each_row(Row&& row) const {
    parallel_for(elements_, elementwise_grain, [&](int64_t begin, int64_t end) { rows_between(begin, end, row); });
  }

  template <class Row>
  void rows_between(int64_t begin, int64_t end, Row&& row) const {
    int64_t column = begin % axes_[0].size, rest = begin / axes_[0].size, a = 0, b = 0;
    Strides at{};  // the row's index on each of the outer axes
    for (int i = 1; i < rank_; ++i) {
      at[i] = rest % axes_[i].size;
      rest /= axes_[i].size;
      a += at[i] * axes_[i].a;
      b += at[i] * axes_[i].b;
    }
    while (begin < end) {
      const int64_t count = std::min(axes_[0].size - column, end - begin);
      row(begin, a + column * axes_[0].a, b + column * axes_[0].b, count);
      begin += count;
      column = 0;
      for (int i = 1; i < rank_; ++i) {
        a += axes_[i].a;
        b += axes_[i].b;
        if (++at[i] < axes_[i].size) break;
        a -= axes_[i].a * at[i];
        b -= axes_[i].b * at[i];
        at[i] = 0;
      }
    }
  }

 private:
  std::array<Axis, Shape::max_rank> axes_{};  // innermost first
  int rank_ = 0;
  int64_t elements_;
};

// Zeros, on all threads: what a thread writes lies near it when it fills in the rest.
template <class T>
void fill_zeros(T* to, int64_t count) {
  parallel_for(count, elementwise_grain, [=](int64_t begin, int64_t end) { std::fill(to + begin, to + end, T(0)); });
}

// to[b] = from[a], or += where `accumulate`, for all pairs of a walk; no two of which may share b.
template <class T>
void copy_along(const Walk& walk, const T* from, T* to, bool accumulate = false) {
  const int64_t step_a = walk.step_a(), step_b = walk.step_b();
  const bool contiguous = step_a == 1 && step_b == 1;
  walk.each_row([=](int64_t, int64_t a, int64_t b, int64_t count) {
    if (contiguous && !accumulate) {
      std::copy_n(from + a, count, to + b);
    } else if (contiguous) {
      for (int64_t i = 0; i < count; ++i) to[b + i] += from[a + i];
    } else {
      for (int64_t i = 0; i < count; ++i) {
        T& target = to[b + i * step_b];
        target = accumulate ? target + from[a + i * step_a] : from[a + i * step_a];
      }
    }
  });
}

}  // namespace parabola
