// How mlp's backward goes through the rows of a batch.
#pragma once
#include "engine/ops/mlp_tiles.h"

namespace parabola::mlp_kernels {

// Where there are sums over the rows (the gradients of weights and bias1), backward takes the rows as `parts`, ranges
// of neighbouring ones, and goes through all parts side by side in *steps* of 256 rows of each: their hidden values and
// gradients, some 2 MiB of floats each where H is at most 2048, stay in the last level of cache. Every part has sums of
// its own, added up at the end; so, where there are several, a thread's part of the batch is here what it is in other
// ops, and it reads what it has written. The parts follow from the shape alone. Without sums there is one part and one
// step, and every worker holds the hidden values of a tile.
constexpr int64_t step_rows = 256;

struct Cut {
  Tiles parts;
  int64_t number;       // of parts, one where there are no rows
  int64_t step, steps;  // rows of each part in a step; number of steps
  Tiles tiles;          // of a part's rows in a step
  Cut(const Sizes& n, const Wanted& wanted) {
    const int64_t most = std::max<int64_t>(1, (int64_t{1} << 19) / step_rows / std::max<int64_t>(1, n.H));
    const int64_t whole = std::max<int64_t>(1, n.rows), least = (whole + most - 1) / most;
    const bool cuts = wanted.sums() && whole > step_rows;
    parts = {n.rows, cuts ? (least + step_rows - 1) / step_rows * step_rows : whole};
    number = std::max<int64_t>(1, parts.number());
    step = cuts ? step_rows : whole;
    steps = (parts.size + step - 1) / step;
    tiles = {step, std::min(step, tiles_of(n, number * step).size)};
  }
  int64_t begin(int64_t part, int64_t at) const { return parts.begin(part) + at * step; }
  int64_t length(int64_t part, int64_t at) const {  // no rows where the part is through
    return std::clamp<int64_t>(parts.length(part) - at * step, 0, step);
  }
  // Rows of all parts in a step: side by side, since those before the last part have equally many.
  int64_t height(int64_t at) const { return (number - 1) * length(0, at) + length(number - 1, at); }
};

// A matrix of which each part has some rows: part 0 from `data` on, the others `part_rows` rows further each.
template <class T>
struct PartRows {
  const T* data;
  int64_t stride, part_rows;
  const T* at(int64_t part, int64_t column) const { return data + part * part_rows * stride + column; }
};

// From one row of hidden values, or of their gradients, to the next. Not a multiple of 64 elements: the rows of a
// column, by which the weights' gradients read them, would meet in a few sets of the first level of cache. Of less than
// 128 columns the bias's gradient reads several rows as one (bias.h).
inline int64_t hidden_stride(const Sizes& n) { return n.H >= 128 && n.H % 64 == 0 ? n.H + 16 : n.H; }

}  // namespace parabola::mlp_kernels
