#include "engine/ops/depthwise/kernels.h"
#include "engine/ops/depthwise/part.h"
#include "engine/ops/depthwise/rows.h"

namespace parabola::depthwise {
namespace {

template <class T>
class Forward {
 public:
  Forward(const Problem& problem, Scratch scratch)
      : problem_(problem), cut_(problem.any()), tile_(input_tile(problem)) {
    if (problem.linear) linear_.take(problem, *problem.linear, 1, false, scratch);
    if (problem.quadratic) factors_.take(problem, *problem.quadratic, 2 * problem.rank, false, scratch);
    tiles_.take(tile_.vectors(), scratch);
    workspace_ = scratch.bytes();
  }
  size_t workspace() const { return workspace_; }

  void run(const ForwardArgs& args) {
    thread_pool().run(cut_.blocks, [&](int64_t block, int) {
      if (linear_) linear_.pack(args.inputs[input_weight], cut_, block, 0, 1);
      for (const int input : {input_a, input_b})
        if (factors_) factors_.pack(args.inputs[static_cast<size_t>(input)], cut_, block, input - input_a, 2);
    });
    tiles_.begin();
    cut_.each_piece([&](Piece piece, const Upcoming& upcoming, int worker) {
      run_piece(args, piece, upcoming, tiles_.of(worker));
    });
  }

 private:
  void run_piece(const ForwardArgs& args, Piece piece, const Upcoming& upcoming, Vector<T>* tile) const {
    const ConvGeometry& g = problem_.any();
    const int64_t inputs = g.H * g.W, outputs = g.image_pixels();
    const Links pixels = (linear_ ? linear_ : factors_).tables.forward.lanes;
    Ahead<T> ahead(static_cast<int64_t>(pixels.size()) / pixel_lanes);
    ahead.read(args.inputs[input_x], inputs, upcoming);
    ahead.write(args.outputs[0], outputs, upcoming);

    const ChannelSlice<T> x(args.inputs[input_x], cut_, piece.block, piece.image * inputs),
        y(args.outputs[0], cut_, piece.block, piece.image * outputs), bias(args.inputs[input_bias], cut_, piece.block);
    fill_tile(x, g.H, g.W, tile_, tile);
    const Vector<T> shift = bias ? bias[0] : Vector<T>{}, scale = broadcast(static_cast<T>(problem_.scale));
    for (size_t group = 0; group < pixels.size(); group += pixel_lanes) {
      ahead.step();
      // The linear part is complete before the product is added, so a product of zero leaves it as it is. And
      // q = scale * product is at hand for a kernel K(q) (PAPER 6.3).
      Sums<T> sums;
      Vector<T>* value = sums.term[0];
      if (linear_) {
        sum_over_taps<T, 1>(linear_.tables.forward, tile, group, linear_.weights + linear_.first_weight(piece.block), 0,
                            sums);
      } else {
        clear<T>(value, pixel_lanes);
      }
      for (int i = 0; i < pixel_lanes; ++i) value[i] += shift;
      if (factors_) {
        Vector<T> product[pixel_lanes] = {};
        for (int64_t j = 0; j < problem_.rank; ++j) add_product(args, piece, j, tile, group, product);
        for (int i = 0; i < pixel_lanes; ++i) value[i] = multiply_add<T>(scale, product[i], value[i]);
      }
      y.set_group(&pixels[group], value, false);
    }
  }

  // product += a_j * b_j of one group of pixels.
  void add_product(const ForwardArgs& args, Piece piece, int64_t j, const Vector<T>* tile, size_t group,
                   Vector<T>* product) const {
    const Pass& pass = factors_.tables.forward;
    Sums<T> sums;
    sum_over_taps<T, 2>(pass, tile, group, factors_.weights + factors_.first_weight(piece.block, 2 * j), factors_.taps,
                        sums);
    for (int i = 0; i < pixel_lanes; ++i) product[i] = multiply_add<T>(sums.term[0][i], sums.term[1][i], product[i]);
    for (size_t kept = 0; kept < args.auxiliary.size(); ++kept) {
      const ChannelSlice<T> to(args.auxiliary[kept], cut_, piece.block,
                               (j * cut_.images + piece.image) * problem_.any().image_pixels());
      to.set_group(&pass.lanes[group], sums.term[kept], false);
    }
  }

  Problem problem_;
  Cut<T> cut_;
  Tile tile_;
  Part<T> linear_, factors_;
  Tiles<T> tiles_;
  size_t workspace_ = 0;
};

template <class T>
void forward_by_rows(const Rows<T>& rows, const ConvGeometry& g, const ForwardArgs& args) {
  const TensorView& bias = args.inputs[input_bias];
  const RowPass<T> pass{.backward = false,
                        .channels = g.C,
                        .columns = g.W,
                        .dilation = g.dilation,
                        .from = args.inputs[input_x].data<T>(),
                        .to = args.outputs[0].data<T>(),
                        .weights = args.inputs[input_weight].data<T>(),
                        .shift = bias ? bias.data<T>() : nullptr};
  rows.run(pass, [](Piece, int64_t, RowPass<T>&) {});
}

}  // namespace

size_t forward_workspace(const Problem& problem, DType dtype) {
  size_t bytes = 0;
  dispatch_float(dtype, "depthwise_conv2d", [&]<class T>() {
    if (!Rows<T>::serve(problem)) bytes = Forward<T>(problem, Scratch()).workspace();
  });
  return bytes;
}

template <class T>
void forward(const Problem& problem, const ForwardArgs& args) {
  if (Rows<T>::serve(problem))
    forward_by_rows(Rows<T>(*problem.linear), *problem.linear, args);
  else
    Forward<T>(problem, Scratch(args.workspace)).run(args);
}
template void forward<float>(const Problem&, const ForwardArgs&);
template void forward<double>(const Problem&, const ForwardArgs&);

}  // namespace parabola::depthwise
