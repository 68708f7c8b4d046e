// Where the taps and pixels of a depthwise convolution lie: made once a call from the shapes, so that the kernels know
// nothing of stride, padding and dilation.
#pragma once
#include <optional>
#include <span>

#include "engine/blas/vector.h"
#include "engine/ops/conv2d/geometry.h"
#include "engine/ops/scratch.h"

namespace parabola::depthwise {

// y = scale * sum_j (A_j x)∘(B_j x) + C x + bias. The plain op has no quadratic part; an adapter alone has no linear
// one.
struct Problem {
  std::optional<ConvGeometry> linear, quadratic;
  int64_t rank = 0;
  double scale = 1;
  const ConvGeometry& any() const { return linear ? *linear : *quadratic; }
};

// Sums kept side by side. Eight hide the latency of two fused multiply-adds a cycle that take four cycles each; nine
// taps are a 3x3 kernel. With two terms these and the factors still fit into the registers.
constexpr int pixel_lanes = many_registers ? 8 : 4;
constexpr int tap_lanes = many_registers ? 9 : 5;

// A pair of offsets, in vectors: into the source, and into the factors (of a step) or the results (of a lane).
struct Link {
  int32_t source, other;
};
using Links = std::span<const Link>;

// The kernel rows that have unrolled code: so many taps, so far apart.
enum class Run : uint8_t { none, three, three_by_two, three_by_three, five, seven };

// Steps of a walk one after the other, and the same ones again of every further plane.
struct Steps {
  const Link* first;
  int64_t count, planes = 1, plane_steps = 0;  // plane_steps: from a plane's first step to the next one's
};

// One pass over a tile, see accumulate.h. Lanes come in groups of `group`; where a row of pixels or the taps do not
// fill the last one, lanes with other = -1 do. Of the walk through each plane a group takes the steps that lead one of
// its lanes over the image, not those that lead all of them over the zeros above and below it.
struct Pass {
  Links lanes, walk;
  Run run = Run::none;
  int group = pixel_lanes;
  int64_t planes = 1;  // at least
  struct Reach {
    int32_t begin, end;
  };
  std::span<const Reach> reach{};  // of each group

  Steps steps(size_t number) const {  // of a group
    const auto [begin, end] = reach[number];
    return {walk.data() + begin, end - begin, planes, static_cast<int64_t>(walk.size()) / planes};
  }
};

// One vector of channels of one image with zeros around it, as a kernel reads it.
struct Tile {
  int64_t rows = 0, columns = 0, top = 0, left = 0;
  int64_t at(int64_t row, int64_t column) const { return (row + top) * columns + column + left; }
  int64_t vectors() const { return rows * columns + pixel_lanes; }  // idle lanes read a little beyond the last row
};

// The three passes of one kernel geometry.
struct Tables {
  Pass forward;                          // lanes {window, output pixel}, walk {tap, weight}
  Pass weight_gradient;                  // lanes {tap, weight}, walk {window, place in the gradient tile}
  std::span<const Pass> input_gradient;  // one for each phase of the stride: lanes {place, input pixel}, walk {tap of a
                                         // plane, weight in flipped rows}
  std::span<const int32_t> places;       // of each output pixel in the gradient tile
  Tile gradient;
};

// The tile of x that serves both kernels of a problem.
Tile input_tile(const Problem& problem);

// Tables for one of the problem's kernels, in memory of `scratch`. Its output gradients are so many `planes`, each as
// large as Tables::gradient, one after the other; and so are its weights. ShapeError where a tile is too large for
// Link.
Tables forward_tables(const Problem& problem, const ConvGeometry& kernel, Scratch& scratch);
Tables backward_tables(const Problem& problem, const ConvGeometry& kernel, int64_t planes, Scratch& scratch);

}  // namespace parabola::depthwise
