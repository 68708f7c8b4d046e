// Plain convolutions with a 3x3 kernel of stride 1 that keeps the image's size, forward and backward, without tiles:
// the tensors are read where they lie, row by row through all channels of a chunk, as memory delivers them best.
#pragma once
#include "engine/ops/depthwise/one_pass.h"
#include "engine/ops/depthwise/pieces.h"

namespace parabola::depthwise {

// What a row's work fetches from memory meanwhile, for each pixel a vector of a row of `to` and `x` and of another one
// of `from`: as they lie side by side, `run` of them and then a gap of elements. Null pointers: not wanted.
template <class T>
struct RowAhead {
  const T *from, *x;
  T* to;
  int64_t run, gap, left_in_run, offset = 0;

  template <bool has_x, bool has_to>
  [[gnu::always_inline]] void fetch() {
    __builtin_prefetch(from + offset, 0, 2);
    if constexpr (has_x) __builtin_prefetch(x + offset, 0, 2);
    if constexpr (has_to) __builtin_prefetch(to + offset, 1, 2);
    offset += vector_lanes<T>;
    if (--left_in_run == 0) offset += gap, left_in_run = run;
  }
};

// One row of one vector of channels: to = or += the sum over (r, s) of w(r, s) from(r, s) + shift, and sums[3 r + s] +=
// corr(x, from(r, s)). Backward has dy as `from` and dx as `to`, w(r, s) is tap (r, s), and from(r, s) is the pixel 1 -
// r dilation rows and 1 - s dilation columns further. Forward has x and y, w(r, s) is tap (r, 2 - s), and the rows are
// r - 1 further: so in both the sum is made in the order in which the tiles' passes make it.
template <class T>
struct RowPass {
  bool backward;
  int64_t channels, columns, dilation;
  const T* from;
  const T* x = nullptr;        // read for the sums
  Vector<T>* sums = nullptr;   // null: not wanted
  T* to = nullptr;             // null: not wanted
  const T* weights = nullptr;  // read for `to`
  const T* shift = nullptr;    // null: none
  bool accumulate = false;

  // So many elements further in the images, and so many channels in the rest.
  void move(int64_t elements, int64_t by_channels) {
    const auto move_one = [](auto*& pointer, int64_t by) { pointer = pointer ? pointer + by : nullptr; };
    move_one(from, elements), move_one(x, elements), move_one(to, elements);
    move_one(weights, by_channels), move_one(shift, by_channels);
  }

  // r goes from first_row to before end_row: the others' rows are not in the image.
  template <bool has_sums, bool has_to, int first_row, int end_row>
  [[gnu::noinline]] void run(RowAhead<T>& fetches) const {
    constexpr auto reaches = [](int r) { return r >= first_row && r < end_row; };
    RowAhead<T> ahead = fetches;
    Vector<T> weight[9], sum[9] = {};
#pragma GCC unroll 4
    for (int r = 0; has_to && r < 3; ++r)
#pragma GCC unroll 4
      for (int s = 0; s < 3; ++s)
        weight[3 * r + s] = load_vector(weights + (3 * r + (backward ? s : 2 - s)) * channels);
    const Vector<T> last = has_to && shift ? load_vector(shift) : -Vector<T>{};  // v + -0 is v, whatever v
    const int64_t left = dilation * channels, down = left * (backward ? columns : -columns), step = channels;
    const T* at[3] = {from + left + (reaches(0) ? down : 0), from + left, from + left - (reaches(2) ? down : 0)};
    const T* x_at = x;
    T* to_at = to;
    const auto pass = [&]<int first, int end>(int64_t pixels) {
      for (; pixels > 0; --pixels) {
        ahead.template fetch<has_sums, has_to>();
        const Vector<T> value = has_sums ? load_vector(x_at) : Vector<T>{};
        Vector<T> result = has_to && accumulate ? load_vector(to_at) : Vector<T>{};
        add_pixel<T, has_sums, has_to, first, end>(
            reaches, [&](int r, int s) { return load_vector(at[r] - s * left); }, value, result, weight, sum);
        if constexpr (has_to) store_vector(to_at, has_sums ? result : result + last);
        if constexpr (has_to) to_at += step;
        if constexpr (has_sums) x_at += step;
        at[0] += step, at[1] += step, at[2] += step;
      }
    };
    pass.template operator()<0, 2>(dilation);  // the columns within the dilation of either end lack one tap
    pass.template operator()<0, 3>(columns - 2 * dilation);
    pass.template operator()<1, 3>(dilation);
#pragma GCC unroll 16
    for (int tap = 0; has_sums && tap < 9; ++tap) sums[tap] += sum[tap];
    fetches.offset = ahead.offset, fetches.left_in_run = ahead.left_in_run;
  }

  template <bool has_sums, bool has_to>
  void run(bool has_first, bool has_last, RowAhead<T>& ahead) const {
    if (has_first && has_last)
      run<has_sums, has_to, 0, 3>(ahead);
    else if (has_first)
      run<has_sums, has_to, 0, 2>(ahead);
    else if (has_last)
      run<has_sums, has_to, 1, 3>(ahead);
    else
      run<has_sums, has_to, 1, 2>(ahead);
  }

  // above, below: whether the image has the rows `dilation` before and after this one.
  void run(bool above, bool below, RowAhead<T>& ahead) const {
    if (!backward)
      run<false, true>(above, below, ahead);
    else if (sums && to)
      run<true, true>(below, above, ahead);
    else if (sums)
      run<true, false>(below, above, ahead);
    else if (to)
      run<false, true>(below, above, ahead);
  }
};

// The order of the rows of an image is that of the dilation d, 0, d, 2 d, .., 1, 1 + d, ..: a row of results needs of
// `from` itself and those d above and d below, so each row comes from memory once and serves three times from the first
// level of cache.
template <class T>
class Rows {
 public:
  static bool serve(const Problem& problem) {
    if (problem.quadratic) return false;
    const ConvGeometry& g = *problem.linear;
    return fits_one_pass(g) && g.padding == g.dilation && g.W >= 2 * g.dilation && g.C % vector_lanes<T> == 0;
  }

  explicit Rows(const ConvGeometry& g)
      : g_(g), cut_(g, 5 * g.W, 40 << 10) {}  // three rows of `from`, one of `x` and `to`
  const Cut<T>& cut() const { return cut_; }

  // `pass`, whose pointers are at the tensors' first elements, over all rows of all pieces. prepare(piece, row, pass)
  // is called before each; row 0 is a piece's first.
  template <class Prepare>
  void run(const RowPass<T>& pass, Prepare&& prepare) const {
    cut_.each_chunk([&](const Chunk& chunk, const Chunk& upcoming, int) {
      Row at{chunk, 0};
      for (int64_t i = 0; i < g_.H; ++i) {
        const Row next = after(at, upcoming), later = after(next, upcoming);
        RowAhead<T> ahead = row_ahead(pass, next, later);
        RowPass<T> of_block = pass;
        of_block.move(offset(at), cut_.first_channel(chunk.first));
        for (int64_t block = chunk.first; block < chunk.end; ++block) {
          prepare(Piece{chunk.image, block}, at.row, of_block);
          of_block.run(at.row >= g_.dilation, at.row + g_.dilation < g_.H, ahead);
          of_block.move(vector_lanes<T>, vector_lanes<T>);
        }
        at = next;
      }
    });
  }

 private:
  struct Row {
    Chunk chunk;
    int64_t row;
  };
  Row after(const Row& at, const Chunk& upcoming) const {
    if (at.row + g_.dilation < g_.H) return {at.chunk, at.row + g_.dilation};
    const int64_t next = at.row % g_.dilation + 1;
    return next < std::min(g_.dilation, g_.H) ? Row{at.chunk, next} : Row{upcoming, 0};
  }
  int64_t offset(const Row& at) const {  // of its first element; where nothing is upcoming, of the tensor's first
    return (at.chunk.image * g_.H + at.row) * g_.W * g_.C + cut_.first_channel(at.chunk.first);
  }
  RowAhead<T> row_ahead(const RowPass<T>& pass, const Row& next, const Row& later) const {
    const int64_t run = cut_.blocks_in_chunk;
    return {.from = pass.from + offset(later),
            .x = pass.x ? pass.x + offset(next) : nullptr,
            .to = pass.to ? pass.to + offset(next) : nullptr,
            .run = run,
            .gap = g_.C - run * vector_lanes<T>,
            .left_in_run = run};
  }

  ConvGeometry g_;
  Cut<T> cut_;
};

}  // namespace parabola::depthwise
