// What one kernel's gradient tiles give: the gradients of its weights, and its part of that of x.
#pragma once
#include "engine/ops/depthwise/one_pass.h"
#include "engine/ops/depthwise/part.h"

namespace parabola::depthwise {

// A piece on its way through backward: x and dx as they lie in memory, x in its tile, the gradient tiles of a kernel.
template <class T>
struct Work {
  int64_t block;
  ChannelSlice<T> x, dx;
  const Vector<T>*tile, *gradients;
  bool accumulate;  // to what is in dx
  Ahead<T>* ahead;
};

// Weight gradients are made of parts of an image of about so many pixels: their slices of the tiles stay in the L1
// cache for all taps, and their sums stay short.
constexpr int64_t part_pixels = 256;

// Weight gradients of a plane, or of two neighbours (Terms = 2), added to sums[plane][tap].
template <class T, int Terms>
void add_weight_gradient(const Part<T>& part, const Vector<T>* tile, const Vector<T>* gradients, Vector<T>* sums) {
  const Pass& pass = part.tables.weight_gradient;
  const int64_t steps = pass.run == Run::none ? part_pixels : part_pixels / pixel_lanes;
  for (int64_t begin = 0; begin < static_cast<int64_t>(pass.walk.size()); begin += steps) {
    for (size_t group = 0; group < pass.lanes.size(); group += static_cast<size_t>(pass.group)) {
      const Steps reach = pass.steps(group / static_cast<size_t>(pass.group));
      const Link *first = std::max(reach.first, pass.walk.data() + begin),
                 *end = std::min(reach.first + reach.count, pass.walk.data() + begin + steps);
      if (first >= end) continue;
      const Link* lanes = &pass.lanes[group];
      Sums<T> part_sums;
      sum_over_pixels<T, Terms>(pass, tile, lanes, {first, end - first}, gradients, part.plane_size(), part_sums);
      for (int i = 0; i < pass.group && lanes[i].other >= 0; ++i)
        for (int t = 0; t < Terms; ++t) sums[t * part.taps + lanes[i].other] += part_sums.term[t][i];
    }
  }
}

// dx = or += what the gradients of all planes give, each through its filter.
template <class T>
void add_input_gradient(const Part<T>& part, const Work<T>& work) {
  for (const Pass& pass : part.tables.input_gradient) {
    for (size_t group = 0; group < pass.lanes.size(); group += pixel_lanes) {
      work.ahead->step();
      Sums<T> sums;
      sum_over_taps<T, 1>(pass, work.gradients, group, part.flipped + part.first_weight(work.block), 0, sums);
      work.dx.set_group(&pass.lanes[group], sums.term[0], work.accumulate);
    }
  }
}

template <class T>
bool in_one_pass(const Part<T>& part, const ChannelSlice<T>& x) {
  return part && fits_one_pass(part.geometry) && x.whole();
}

// A part of the image.
struct PixelRange {
  int64_t row, rows_end, column, columns_end;
};

// Of one plane and a part of the image. sums[tap] += corr(x, gradient), and dx = the gradient through the filter, the
// sum going on from what is in dx where `accumulate`.
template <class T, bool weights, bool input>
[[gnu::noinline]] void add_both_gradients(const Part<T>& part, const Work<T>& work, int64_t plane, PixelRange range,
                                          bool accumulate, Vector<T>* sums) {
  constexpr int taps = 9;
  const ConvGeometry& g = part.geometry;
  const Tile& tile = part.tables.gradient;
  const Vector<T>*gradient = work.gradients + plane * part.plane_size(),
        *filter = part.weights + part.first_weight(work.block, plane);
  Vector<T> weight[taps], sum[taps] = {};
#pragma GCC unroll 16
  for (int tap = 0; tap < taps; ++tap) weight[tap] = filter[tap];
  const int64_t left = g.dilation, up = left * tile.columns, step = work.x.step();
  for (int64_t row = range.row; row < range.rows_end; ++row) {
    const Vector<T>* first = gradient + tile.at(row + g.padding, range.column + g.padding);
    const Vector<T>* at[] = {first, first - up, first - 2 * up};
    bool reaches[3];  // whether a kernel row meets the output, and not only its margin
    for (int r = 0; r < 3; ++r) {
      const int64_t output = row + g.padding - r * g.dilation;
      reaches[r] = output >= 0 && output < g.Ho;
    }
    const int64_t from = (row * g.W + range.column) * step;
    const T* x = weights ? work.x.data() + from : nullptr;
    T* dx = input ? work.dx.data() + from : nullptr;
    for (int64_t left_over = range.columns_end - range.column; left_over > 0; left_over -= pixel_lanes) {
      work.ahead->step();
      for (int64_t pixels = std::min<int64_t>(left_over, pixel_lanes); pixels > 0; --pixels) {
        const Vector<T> value = weights ? load_vector(x) : Vector<T>{};
        Vector<T> d = input && accumulate ? load_vector(dx) : Vector<T>{};
        add_pixel<T, weights, input, 0, 3>([&](int r) { return reaches[r]; },
                                           [&](int r, int s) { return at[r][-s * left]; }, value, d, weight, sum);
        if constexpr (input) store_vector(dx, d);
        if constexpr (input) dx += step;
        if constexpr (weights) x += step;
        ++at[0], ++at[1], ++at[2];
      }
    }
  }
#pragma GCC unroll 16
  for (int tap = 0; weights && tap < taps; ++tap) sums[tap] += sum[tap];
}

// All gradients of one kernel; sums(plane): where those of its weights go, null where they are not wanted.
template <class T, class SumsOf>
void add_gradients(const Part<T>& part, const Work<T>& work, SumsOf&& sums) {
  const bool dx = static_cast<bool>(work.dx);
  if (in_one_pass(part, work.x)) {
    const ConvGeometry& g = part.geometry;
    const int64_t columns = std::clamp<int64_t>(g.W, 1, part_pixels),
                  rows = std::max<int64_t>(1, part_pixels / columns);
    for (int64_t plane = 0; plane < part.planes; ++plane)
      for (int64_t row = 0; row < g.H; row += rows)
        for (int64_t column = 0; column < g.W; column += columns) {
          const PixelRange range{row, std::min(g.H, row + rows), column, std::min(g.W, column + columns)};
          const bool accumulate = work.accumulate || plane > 0;
          if (Vector<T>* to = sums(plane); to && dx)
            add_both_gradients<T, true, true>(part, work, plane, range, accumulate, to);
          else if (to)
            add_both_gradients<T, true, false>(part, work, plane, range, accumulate, to);
          else if (dx)
            add_both_gradients<T, false, true>(part, work, plane, range, accumulate, to);
        }
    return;
  }
  for (int64_t plane = 0; plane < part.planes; plane += 2) {
    Vector<T>*first = sums(plane), *second = plane + 1 < part.planes ? sums(plane + 1) : nullptr;
    const Vector<T>* gradients = work.gradients + plane * part.plane_size();
    if (first && second)
      add_weight_gradient<T, 2>(part, work.tile, gradients, first);
    else if (first)
      add_weight_gradient<T, 1>(part, work.tile, gradients, first);
    else if (second)
      add_weight_gradient<T, 1>(part, work.tile, gradients + part.plane_size(), second);
  }
  if (dx) add_input_gradient(part, work);
}

}  // namespace parabola::depthwise
