// Backward of the convolutions that rows.h serves.
#pragma once
#include "engine/ops/depthwise/group_sums.h"
#include "engine/ops/depthwise/kernels.h"
#include "engine/ops/depthwise/rows.h"

namespace parabola::depthwise {

template <class T>
class RowBackward {
 public:
  RowBackward(const Problem& problem, uint64_t wanted, Scratch scratch)
      : g_(*problem.linear), rows_(g_), wanted_(wanted) {
    sums_.take(rows_.cut(), 1 + taps, scratch);  // the bias has the first
    workspace_ = scratch.bytes();
  }
  size_t workspace() const { return workspace_; }

  void run(const BackwardArgs& args) const {
    const Cut<T>& cut = rows_.cut();
    const auto data = [](const TensorView& view) { return view ? view.data<T>() : nullptr; };
    const RowPass<T> pass{.backward = true,
                          .channels = g_.C,
                          .columns = g_.W,
                          .dilation = g_.dilation,
                          .from = data(args.output_gradients[0]),
                          .x = wants(input_weight) ? data(args.inputs[input_x]) : nullptr,
                          .to = data(args.input_gradients[input_x]),
                          .weights = wants(input_x) ? data(args.inputs[input_weight]) : nullptr,
                          .accumulate = args.accumulates(input_x)};
    rows_.run(pass, [&](Piece piece, int64_t row, RowPass<T>& of_block) {
      Vector<T>* sums = row == 0 ? sums_.begin(cut, piece) : sums_.of(cut, piece);
      if (wants(input_weight)) of_block.sums = sums + 1;
      if (wants(input_bias)) sums[0] += sum_of(of_block.from, g_.C, g_.W);
    });
    thread_pool().run(cut.blocks, [&](int64_t block, int) {
      sums_.combine(args.input_gradients[input_bias], args.accumulates(input_bias), cut, block, 0, 0, 1);
      sums_.combine(args.input_gradients[input_weight], args.accumulates(input_weight), cut, block, 0, 1, taps);
    });
  }

 private:
  static constexpr int64_t taps = 9;
  bool wants(int input) const { return wanted_ >> input & 1; }
  static Vector<T> sum_of(const T* from, int64_t step, int64_t pixels) {
    Vector<T> sum{};
    for (; pixels > 0; --pixels, from += step) sum += load_vector(from);
    return sum;
  }

  ConvGeometry g_;
  Rows<T> rows_;
  uint64_t wanted_;
  GroupSums<T> sums_;
  size_t workspace_ = 0;
};

}  // namespace parabola::depthwise
