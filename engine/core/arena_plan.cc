#include "engine/core/arena_plan.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

namespace parabola {
namespace {

constexpr int passes = 100;  // more gain little: 1,000 one percent

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

// The most bytes alive at once: no region can be smaller.
size_t most_alive(const std::vector<BlockLife>& lives) {
  std::vector<std::pair<uint64_t, int64_t>> changes;
  for (const BlockLife& life : lives) {
    changes.emplace_back(life.begin, static_cast<int64_t>(life.bytes));
    changes.emplace_back(life.end, -static_cast<int64_t>(life.bytes));
  }
  std::ranges::sort(changes);  // at equal times what is freed comes first
  int64_t alive = 0, most = 0;
  for (const auto& [time, bytes] : changes) most = std::max(most, alive += bytes);
  return static_cast<size_t>(most);
}

}  // namespace

ArenaPlan plan_arena(std::span<const BlockLife> lives, size_t alignment) {
  std::vector<BlockLife> aligned(lives.begin(), lives.end());
  for (BlockLife& life : aligned)
    life.bytes = (std::max<size_t>(life.bytes, 1) + alignment - 1) / alignment * alignment;
  const size_t least = most_alive(aligned);
  std::vector<size_t> order(aligned.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t block) { return aligned[block].bytes; });
  ArenaPlan best;
  for (int pass = 0; pass < passes; ++pass) {
    ArenaPlan plan = place_in_order(aligned, order);
    if (pass == 0 || plan.bytes < best.bytes) best = plan;
    if (best.bytes == least) break;
    // What came to lie too high had been too late; halfway to the least, so that not all of them move at once.
    const size_t allowed = least + (best.bytes - least) / 2;
    std::stable_partition(order.begin(), order.end(),
                          [&](size_t block) { return plan.places[block].offset + plan.places[block].bytes > allowed; });
  }
  return best;
}

}  // namespace parabola
