// The gradients of weights on their way: a sum for each group of images and block of channels, which one task adds up,
// and then over the groups, in their order.
#pragma once
#include "engine/ops/depthwise/part.h"

namespace parabola::depthwise {

template <class T>
class GroupSums {
 public:
  void take(const Cut<T>& cut, int64_t size, Scratch& scratch) {
    size_ = size;
    sums_ = take_vectors<T>(scratch, cut.groups * cut.blocks * size);
  }

  Vector<T>* of(const Cut<T>& cut, Piece piece) const { return sums_ + cut.sum_of(piece) * size_; }
  // For a piece's first use: zeros for the first image of its group.
  Vector<T>* begin(const Cut<T>& cut, Piece piece) const {
    if (cut.starts_sum(piece)) clear<T>(of(cut, piece), size_);
    return of(cut, piece);
  }

  // What all groups have in the `taps` sums from the `first` on becomes filter `number` of a gradient [.., taps, C], or
  // is added to it.
  void combine(const TensorView& gradient, bool accumulate, const Cut<T>& cut, int64_t block, int64_t number,
               int64_t first, int64_t taps) const {
    if (!gradient) return;
    const ChannelSlice<T> filter(gradient, cut, block, number * taps);
    for (int64_t tap = 0; tap < taps; ++tap) {
      Vector<T> sum{};
      for (int64_t group = 0; group < cut.groups; ++group)
        sum += sums_[(group * cut.blocks + block) * size_ + first + tap];
      filter.set(tap, accumulate ? filter[tap] + sum : sum);
    }
  }

 private:
  Vector<T>* sums_ = nullptr;  // [group][block][sum]
  int64_t size_ = 0;
};

}  // namespace parabola::depthwise
