#include "engine/ops/depthwise/tables.h"

#include <algorithm>
#include <limits>

#include "engine/ops/depthwise/links.h"

namespace parabola::depthwise {
namespace {

int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Offsets are 32 bits wide, which a mistaken padding can exceed.
const Tile& checked(const Tile& tile, int64_t planes = 1) {
  if (tile.vectors() > std::numeric_limits<int32_t>::max() / std::max<int64_t>(1, planes))
    fail<ShapeError>("depthwise", "padded image: got ", tile.rows, " x ", tile.columns, " pixels for ", planes,
                     " filters, expected fewer than 2^31");
  return tile;
}

Link link(int64_t source, int64_t other) { return {static_cast<int32_t>(source), static_cast<int32_t>(other)}; }

// Unrolled rows compute whole groups of pixels, so they pay only where the groups are mostly full.
bool fills_groups(int64_t columns) { return 3 * columns >= 2 * round_up(columns, pixel_lanes); }

Run run_of(const ConvGeometry& g) {
  if (g.stride != 1) return Run::none;
  if (g.S == 3 && g.dilation <= 3)
    return g.dilation == 1 ? Run::three : g.dilation == 2 ? Run::three_by_two : Run::three_by_three;
  if (g.dilation != 1) return Run::none;
  return g.S == 5 ? Run::five : g.S == 7 ? Run::seven : Run::none;
}

// Fills in what the groups of a pass reach of the `rows` rows of an image in the middle of a tile.
void find_reach(Pass& pass, const Tile& tile, int64_t rows, Scratch& scratch) {
  const size_t size = static_cast<size_t>(pass.group), groups = pass.lanes.size() / size,
               steps = pass.walk.size() / static_cast<size_t>(pass.planes);
  Pass::Reach* reach = scratch.take<Pass::Reach>(static_cast<int64_t>(groups));
  int64_t* down = scratch.take<int64_t>(static_cast<int64_t>(steps));  // by how many rows a step leads away from a lane
  pass.reach = {reach, groups};
  if (!reach || groups == 0) return;
  const auto row = [&](int64_t source) { return source / tile.columns - tile.top; };
  const int64_t origin = pass.lanes[0].source;
  for (size_t step = 0; step < steps; ++step) down[step] = row(origin + pass.walk[step].source) - row(origin);
  for (size_t group = 0; group < groups; ++group) {
    const int64_t first = row(pass.lanes[group * size].source), last = row(pass.lanes[group * size + size - 1].source);
    const auto meets = [&](int64_t by) { return last + by >= 0 && first + by < rows; };
    const int64_t* const through = down + steps;
    const int64_t* begin = std::find_if<const int64_t*>(down, through, meets);
    const int64_t* end = std::find_if_not(begin, through, meets);
    reach[group] = {static_cast<int32_t>(begin - down), static_cast<int32_t>(end - down)};
  }
}

int64_t window(const ConvGeometry& g, const Tile& tile, int64_t row, int64_t column) {
  return tile.at(row * g.stride - g.padding, column * g.stride - g.padding);
}

// The output gradient, with room on each side for the taps that reach over its edge.
Tile gradient_tile(const ConvGeometry& g) {
  const auto before = [&](int64_t taps) {
    return std::max<int64_t>(0, ((taps - 1) * g.dilation - g.padding) / g.stride);
  };
  const auto size = [&](int64_t input, int64_t output) {
    return std::max(output, (input - 1 + g.padding) / g.stride + 1);
  };
  Tile tile{.top = before(g.R), .left = before(g.S)};
  tile.rows = tile.top + size(g.H, g.Ho);
  tile.columns = tile.left + size(g.W, round_up(g.Wo, pixel_lanes));
  return tile;
}

Pass forward_pass(const Problem& problem, const ConvGeometry& g, Scratch& scratch) {
  const Tile tile = input_tile(problem);
  // Both kernels of a problem group the pixels alike, since their sums meet in one output.
  const auto runs = [](const std::optional<ConvGeometry>& kernel) { return kernel && run_of(*kernel) != Run::none; };
  const bool by_rows = fills_groups(g.Wo) && (runs(problem.linear) || runs(problem.quadratic));
  Pass pass{.run = by_rows ? run_of(g) : Run::none};
  pass.lanes = make_lanes(scratch, g.Ho, g.Wo, pass.group, by_rows, [&](int64_t row, int64_t column) {
    return link(window(g, tile, row, column), row * g.Wo + column);
  });
  pass.walk = make_walk(scratch, g.R, g.S, pass.run == Run::none ? 1 : g.S, [&](int64_t r, int64_t s) {
    return link(r * g.dilation * tile.columns + s * g.dilation, r * g.S + s);
  });
  find_reach(pass, tile, g.H, scratch);
  return pass;
}

Pass weight_gradient_pass(const ConvGeometry& g, const Tile& input, const Tile& gradient, Scratch& scratch) {
  Pass pass{.run = run_of(g)};
  if ((pass.run != Run::five && pass.run != Run::seven) || !fills_groups(g.Wo)) pass.run = Run::none;
  const bool runs = pass.run != Run::none;
  pass.group = runs ? static_cast<int>(g.S) : tap_lanes;
  pass.lanes = make_lanes(scratch, g.R, g.S, pass.group, runs, [&](int64_t r, int64_t s) {
    return link(r * g.dilation * input.columns + s * g.dilation, r * g.S + s);
  });
  pass.walk = make_walk(scratch, g.Ho, g.Wo, runs ? pixel_lanes : 1, [&](int64_t row, int64_t column) {
    return link(window(g, input, row, column), gradient.at(row, column));
  });
  find_reach(pass, input, g.H, scratch);
  return pass;
}

// Input pixel (h, w) is read by tap (r, s) for output pixel ((h + padding - r * dilation) / stride, ...), where that is
// whole. So the pixels that are a whole number of strides apart, a phase, share their taps. This is the one of (h0,
// w0).
Pass input_gradient_pass(const ConvGeometry& g, const Tile& gradient, int64_t planes, int64_t h0, int64_t w0,
                         Scratch& scratch) {
  const int64_t stride = g.stride;
  const auto count = [&](int64_t size, int64_t first) { return (size - first + stride - 1) / stride; };
  const auto reach = [&](int64_t first, int64_t tap) { return (first + g.padding) % stride - tap * g.dilation; };
  Pass pass{.run = fills_groups(g.W) ? run_of(g) : Run::none, .planes = std::max<int64_t>(1, planes)};
  const bool runs = pass.run != Run::none;
  const auto place = [&](int64_t row, int64_t column) {
    const int64_t h = h0 + row * stride, w = w0 + column * stride;
    return link(gradient.at((h + g.padding) / stride, (w + g.padding) / stride), h * g.W + w);
  };
  pass.lanes = make_lanes(scratch, count(g.H, h0), count(g.W, w0), pass.group, runs, place);
  // Within a kernel row from the last tap to the first, the order in which they meet the gradient's columns.
  pass.walk =
      make_walk(scratch, planes * g.R, g.S, runs ? g.S : 1, [&](int64_t plane_row, int64_t k) -> std::optional<Link> {
        const int64_t rows = reach(h0, plane_row % g.R), columns = reach(w0, g.S - 1 - k);
        if (rows % stride != 0 || columns % stride != 0) return {};
        const int64_t plane = plane_row / g.R * gradient.vectors();
        return link(plane + rows / stride * gradient.columns + columns / stride, plane_row * g.S + k);
      });
  find_reach(pass, gradient, g.Ho, scratch);
  return pass;
}

}  // namespace

Tile input_tile(const Problem& problem) {
  Tile tile;
  const auto each = [&](auto&& use) {
    for (const auto* kernel : {&problem.linear, &problem.quadratic})
      if (*kernel) use(**kernel);
  };
  each([&](const ConvGeometry& g) { tile.top = tile.left = std::max(tile.top, g.padding); });
  each([&](const ConvGeometry& g) {
    const auto end = [&](int64_t input, int64_t output, int64_t taps) {
      return tile.top + std::max(input, (output - 1) * g.stride - g.padding + (taps - 1) * g.dilation + 1);
    };
    tile.rows = std::max(tile.rows, end(g.H, g.Ho, g.R));
    tile.columns = std::max(tile.columns, end(g.W, g.Wo, g.S));
  });
  return checked(tile);
}

Tables forward_tables(const Problem& problem, const ConvGeometry& kernel, Scratch& scratch) {
  return {.forward = forward_pass(problem, kernel, scratch)};
}

Tables backward_tables(const Problem& problem, const ConvGeometry& g, int64_t planes, Scratch& scratch) {
  const Tile input = input_tile(problem);
  Tables tables{.gradient = checked(gradient_tile(g), planes)};
  tables.forward = forward_pass(problem, g, scratch);
  tables.weight_gradient = weight_gradient_pass(g, input, tables.gradient, scratch);
  const int64_t row_phases = std::min(g.stride, g.H), column_phases = std::min(g.stride, g.W);
  Pass* passes = scratch.take<Pass>(row_phases * column_phases);
  tables.input_gradient = {passes, static_cast<size_t>(row_phases * column_phases)};
  for (int64_t phase = 0; phase < row_phases * column_phases; ++phase) {
    const Pass pass =
        input_gradient_pass(g, tables.gradient, planes, phase / column_phases, phase % column_phases, scratch);
    if (passes) passes[phase] = pass;
  }
  int32_t* places = scratch.take<int32_t>(g.image_pixels());
  tables.places = {places, static_cast<size_t>(g.image_pixels())};
  for (int64_t pixel = 0; places && pixel < g.image_pixels(); ++pixel)
    places[pixel] = static_cast<int32_t>(tables.gradient.at(pixel / g.Wo, pixel % g.Wo));
  return tables;
}

}  // namespace parabola::depthwise
