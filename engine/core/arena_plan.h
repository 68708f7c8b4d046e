// Where the blocks of a step lie in one region of the arena, decided before the step runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace parabola {

// A block from the moment when it is asked for until it is free again, in logical time.
struct BlockLife {
  size_t bytes;
  uint64_t begin, end;
};

struct ArenaPlan {
  struct Place {
    size_t offset, bytes;
  };
  std::vector<Place> places;  // in the order of the blocks
  size_t bytes = 0;           // of a region that holds them all
};

// Lays the blocks out so that no two which live at the same time overlap, in a region as small as a greedy order finds:
// one block after the other goes into the tightest gap between those already placed beside which it lives, the largest
// blocks first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020), or those that
// live longest for their size; the smaller region of the two. Offsets are multiples of `alignment`. At least the most
// bytes alive at once, in all steps seen at most a few percent more. Time: quadratic in the number of blocks.
ArenaPlan plan_arena(std::span<const BlockLife> lives, size_t alignment);

}  // namespace parabola
