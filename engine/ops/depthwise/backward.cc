#include "engine/ops/depthwise/gradients.h"
#include "engine/ops/depthwise/group_sums.h"
#include "engine/ops/depthwise/kernels.h"
#include "engine/ops/depthwise/row_backward.h"

namespace parabola::depthwise {
namespace {

// With g the gradient of y and s the scale (PAPER 4):
//   dbias = sum g           dC = corr(x, g)              dA_j = corr(x, s g∘b_j)        dB_j = corr(x, s g∘a_j)
//   dx = C^T g + sum_j A_j^T (s g∘b_j) + B_j^T (s g∘a_j)
// The gradient tiles hold g for the linear kernel, s g∘b_j for A_j and s g∘a_j for B_j.
template <class T>
class Backward {
 public:
  Backward(const Problem& problem, uint64_t wanted, bool kept, Scratch scratch)
      : problem_(problem), cut_(problem.any()), tile_(input_tile(problem)), wanted_(wanted), kept_(kept) {
    needs_a_ = problem.quadratic && (wants(input_x) || wants(input_b));
    needs_b_ = problem.quadratic && (wants(input_x) || wants(input_a));
    if (problem.linear && (wants(input_x) || wants(input_weight)))
      linear_.take(problem, *problem.linear, 1, true, scratch);
    if (needs_a_ || needs_b_) factors_.take(problem, *problem.quadratic, 2 * problem.rank, true, scratch);
    first_factor_sum_ = 1 + (wants(input_weight) ? linear_.taps : 0);  // the bias has the first
    sums_.take(cut_, first_factor_sum_ + (wants(input_a) || wants(input_b) ? factors_.planes * factors_.taps : 0),
               scratch);
    tiles_.take(tile_.vectors() + linear_.planes * linear_.plane_size() + factors_.planes * factors_.plane_size(),
                scratch);
    workspace_ = scratch.bytes();
  }
  size_t workspace() const { return workspace_; }

  void run(const BackwardArgs& args) {
    thread_pool().run(cut_.blocks, [&](int64_t block, int) {
      if (linear_) linear_.pack(args.inputs[input_weight], cut_, block, 0, 1);
      for (const int input : {input_a, input_b})
        if (factors_) factors_.pack(args.inputs[static_cast<size_t>(input)], cut_, block, input - input_a, 2);
    });
    tiles_.begin();
    cut_.each_piece([&](Piece piece, const Upcoming& upcoming, int worker) {
      run_piece(args, piece, upcoming, tiles_.of(worker));
    });
    thread_pool().run(cut_.blocks, [&](int64_t block, int) {
      combine(args, input_bias, block, 0, 0, 1);
      combine(args, input_weight, block, 0, 1, linear_.taps);
      for (int64_t plane = 0; plane < factors_.planes; ++plane)
        combine(args, input_a + static_cast<int>(plane % 2), block, plane / 2,
                first_factor_sum_ + plane * factors_.taps, factors_.taps);
    });
  }

 private:
  bool wants(int input) const { return wanted_ >> input & 1; }

  void combine(const BackwardArgs& args, int input, int64_t block, int64_t filter, int64_t first, int64_t taps) const {
    sums_.combine(args.input_gradients[static_cast<size_t>(input)], args.accumulates(input), cut_, block, filter, first,
                  taps);
  }

  void run_piece(const BackwardArgs& args, Piece piece, const Upcoming& upcoming, Vector<T>* tile) const {
    const ConvGeometry& g = problem_.any();
    const int64_t inputs = g.H * g.W, outputs = g.image_pixels();
    const auto slice = [&](const TensorView& view, int64_t pixels) {
      return ChannelSlice<T>(view, cut_, piece.block, piece.image * pixels);
    };
    const TensorView &x_view = args.inputs[input_x], &dx_view = args.input_gradients[input_x],
                     &dy_view = args.output_gradients[0];
    Ahead<T> ahead(inputs / pixel_lanes);
    ahead.read(x_view, inputs, upcoming);
    ahead.read(dy_view, outputs, upcoming);
    ahead.write(dx_view, inputs, upcoming);

    Vector<T>*of_linear = tile + tile_.vectors(), *of_factors = of_linear + linear_.planes * linear_.plane_size();
    Vector<T>* sums = sums_.begin(cut_, piece);
    const ChannelSlice<T> x = slice(x_view, inputs), dx = slice(dx_view, inputs), dy = slice(dy_view, outputs);
    if (x && (factors_ || !in_one_pass(linear_, x))) fill_tile(x, g.H, g.W, tile_, tile);
    if (linear_) fill_tile(dy, g.Ho, g.Wo, linear_.tables.gradient, of_linear);
    if (factors_) fill_products(args, piece, dy, tile, of_factors);
    if (wants(input_bias)) add_bias_gradient(dy, sums);
    // The factors' part of dx first: its sum goes on from plane to plane in dx.
    Work<T> work{piece.block, x, dx, tile, of_factors, args.accumulates(input_x), &ahead};
    if (factors_)
      add_gradients(factors_, work, [&](int64_t plane) {
        return wants(plane % 2 == 0 ? input_a : input_b) ? sums + first_factor_sum_ + plane * factors_.taps : nullptr;
      });
    work.gradients = of_linear, work.accumulate |= static_cast<bool>(factors_);
    if (linear_) add_gradients(linear_, work, [&](int64_t) { return wants(input_weight) ? sums + 1 : nullptr; });
  }

  // The gradient tiles of the factors, from what forward kept of a and b or, computed like there, from x.
  void fill_products(const BackwardArgs& args, Piece piece, const ChannelSlice<T>& dy, const Vector<T>* tile,
                     Vector<T>* gradients) const {
    const Pass& pass = factors_.tables.forward;
    const Vector<T> scale = broadcast(static_cast<T>(problem_.scale));
    const int64_t size = factors_.plane_size();
    for (size_t group = 0; group < pass.lanes.size(); group += pixel_lanes) {
      const Link* lanes = &pass.lanes[group];
      Vector<T> g[pixel_lanes];
      int count = 0;
      for (; count < pixel_lanes && lanes[count].other >= 0; ++count) g[count] = scale * dy[lanes[count].other];
      for (int64_t j = 0; j < problem_.rank; ++j) {
        const Sums<T> factors =
            kept_ ? kept_factors(args, piece, j, lanes, count) : computed_factors(pass, piece, j, group, tile);
        Vector<T>*for_a = gradients + 2 * j * size, *for_b = for_a + size;
        for (int i = 0; i < count; ++i) {
          const int32_t place = factors_.tables.places[static_cast<size_t>(lanes[i].other)];
          if (needs_b_) for_a[place] = g[i] * factors.term[1][i];
          if (needs_a_) for_b[place] = g[i] * factors.term[0][i];
        }
      }
    }
  }

  // The values of a_j and b_j that are needed, in a group of pixels, as forward left them.
  Sums<T> kept_factors(const BackwardArgs& args, Piece piece, int64_t j, const Link* lanes, int count) const {
    Sums<T> factors;
    for (size_t kept = needs_a_ ? 0 : 1; kept < (needs_b_ ? 2 : 1); ++kept) {
      const ChannelSlice<T> from(args.auxiliary[kept], cut_, piece.block,
                                 (j * cut_.images + piece.image) * problem_.any().image_pixels());
      for (int i = 0; i < count; ++i) factors.term[kept][i] = from[lanes[i].other];
    }
    return factors;
  }

  Sums<T> computed_factors(const Pass& pass, Piece piece, int64_t j, size_t group, const Vector<T>* tile) const {
    Sums<T> factors;
    const Vector<T>* weights = factors_.weights + factors_.first_weight(piece.block, 2 * j);
    if (needs_a_ && needs_b_) {
      sum_over_taps<T, 2>(pass, tile, group, weights, factors_.taps, factors);
    } else {
      sum_over_taps<T, 1>(pass, tile, group, weights + (needs_a_ ? 0 : factors_.taps), 0, factors);
      if (needs_b_) std::copy_n(factors.term[0], pixel_lanes, factors.term[1]);
    }
    return factors;
  }

  void add_bias_gradient(const ChannelSlice<T>& dy, Vector<T>* sums) const {
    Vector<T> sum{};
    for (int64_t pixel = 0; pixel < problem_.any().image_pixels(); ++pixel) sum += dy[pixel];
    sums[0] += sum;
  }

  Problem problem_;
  Cut<T> cut_;
  Tile tile_;
  uint64_t wanted_;
  bool kept_, needs_a_ = false, needs_b_ = false;
  Part<T> linear_, factors_;
  Tiles<T> tiles_;
  GroupSums<T> sums_;
  int64_t first_factor_sum_ = 0;
  size_t workspace_ = 0;
};

// f(the kernels that serve the problem best).
template <class T, class F>
void with_backward(const Problem& problem, uint64_t wanted, bool kept, Scratch scratch, F&& f) {
  if (Rows<T>::serve(problem))
    f(RowBackward<T>(problem, wanted, scratch));
  else
    f(Backward<T>(problem, wanted, kept, scratch));
}

}  // namespace

size_t backward_workspace(const Problem& problem, DType dtype, uint64_t gradient_mask, bool kept) {
  size_t bytes = 0;
  dispatch_float(dtype, "depthwise_conv2d", [&]<class T>() {
    with_backward<T>(problem, gradient_mask, kept, Scratch(), [&](auto&& kernels) { bytes = kernels.workspace(); });
  });
  return bytes;
}

template <class T>
void backward(const Problem& problem, const BackwardArgs& args) {
  uint64_t wanted = 0;
  for (size_t i = 0; i < args.input_gradients.size(); ++i)
    if (args.input_gradients[i]) wanted |= uint64_t{1} << i;
  with_backward<T>(problem, wanted, !args.auxiliary.empty(), Scratch(args.workspace),
                   [&](auto&& kernels) { kernels.run(args); });
}
template void backward<float>(const Problem&, const BackwardArgs&);
template void backward<double>(const Problem&, const BackwardArgs&);

}  // namespace parabola::depthwise
