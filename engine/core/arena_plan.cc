#include "engine/core/arena_plan.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

namespace parabola {
namespace {

// The start of the tightest gap of at least `size` bytes that the blocks, sorted by offset, leave at some time of the
// life; where none is large enough, the end of the last of them.
size_t tightest_gap(const std::vector<BlockLife>& lives, const std::vector<ArenaPlan::Place>& places,
                    const std::vector<size_t>& by_offset, const BlockLife& life) {
  size_t end = 0, best = 0, least = std::numeric_limits<size_t>::max();
  for (const size_t other : by_offset) {
    if (lives[other].end <= life.begin || life.end <= lives[other].begin) continue;
    const size_t begin = places[other].offset;
    if (begin >= end + life.bytes && begin - end < least) best = end, least = begin - end;
    end = std::max(end, begin + lives[other].bytes);
  }
  return least == std::numeric_limits<size_t>::max() ? end : best;
}

ArenaPlan place_in_order(const std::vector<BlockLife>& lives, const std::vector<size_t>& order) {
  ArenaPlan plan{.places = std::vector<ArenaPlan::Place>(lives.size())};
  std::vector<size_t> by_offset;
  for (const size_t block : order) {
    const size_t offset = tightest_gap(lives, plan.places, by_offset, lives[block]);
    plan.places[block] = {offset, lives[block].bytes};
    plan.bytes = std::max(plan.bytes, offset + lives[block].bytes);
    const auto offset_of = [&](size_t other) { return plan.places[other].offset; };
    by_offset.insert(std::ranges::upper_bound(by_offset, offset, {}, offset_of), block);
  }
  return plan;
}

}  // namespace

ArenaPlan plan_arena(std::span<const BlockLife> lives, size_t alignment) {
  std::vector<BlockLife> aligned(lives.begin(), lives.end());
  for (BlockLife& life : aligned)
    life.bytes = (std::max<size_t>(life.bytes, 1) + alignment - 1) / alignment * alignment;
  std::vector<size_t> order(aligned.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto area = [&](size_t block) {
    return static_cast<double>(aligned[block].bytes) * static_cast<double>(aligned[block].end - aligned[block].begin);
  };
  std::ranges::stable_sort(order, std::greater(), [&](size_t block) { return aligned[block].bytes; });
  ArenaPlan by_size = place_in_order(aligned, order);
  std::ranges::stable_sort(order, std::greater(), area);
  ArenaPlan by_area = place_in_order(aligned, order);
  return by_area.bytes < by_size.bytes ? by_area : by_size;
}

}  // namespace parabola
