#include "engine/core/memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/core/tensor.h"

namespace parabola::memory_test {

namespace {

// Under AddressSanitizer every block is a malloc of its own, and nothing is kept that could be reused.
bool keeps_regions() {
  Arena arena;
  std::byte* block = arena.allocate(1);
  const bool region = arena.reserved_bytes() > 1_MiB;
  arena.deallocate(block, 1);
  return region;
}

bool is_aligned(const std::byte* block) { return reinterpret_cast<uintptr_t>(block) % 64 == 0; }

struct Live {
  size_t activations = Memory::of({}).live_bytes(Category::activations);
  size_t workspace = Memory::of({}).live_bytes(Category::workspace);
  size_t parameters = Memory::of({}).live_bytes(Category::parameters);
  bool operator==(const Live&) const = default;
};

}  // namespace

TEST_CASE("arena: blocks are aligned, apart from each other, and hold what they were asked for") {
  Arena arena;
  std::vector<std::pair<std::byte*, size_t>> blocks;
  for (size_t bytes : {0UL, 1UL, 63UL, 64UL, 65UL, 4096UL, 1000003UL, 0UL}) {
    blocks.emplace_back(arena.allocate(bytes), bytes);
    CHECK(is_aligned(blocks.back().first));
    std::memset(blocks.back().first, static_cast<int>(blocks.size()), bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t k = 0; k < blocks[i].second; ++k) REQUIRE(blocks[i].first[k] == static_cast<std::byte>(i + 1));
  std::set<std::byte*> addresses;  // of the empty ones, too
  for (const auto& [block, bytes] : blocks) addresses.insert(block);
  CHECK(addresses.size() == blocks.size());
  for (const auto& [block, bytes] : blocks) arena.deallocate(block, bytes);
}

TEST_CASE("arena: neighbours that are free become one block, in whatever order they were freed") {
  if (!keeps_regions()) return;
  const size_t region = 32_MiB, part = region / 4;
  std::vector<int> order = {0, 1, 2, 3};
  do {
    Arena arena;
    std::vector<std::byte*> parts;
    for (int i = 0; i < 4; ++i) parts.push_back(arena.allocate(part));
    CHECK(arena.reserved_bytes() == region);
    for (int i : order) arena.deallocate(parts[static_cast<size_t>(i)], part);
    std::byte* whole = arena.allocate(region);
    CHECK(whole == *std::min_element(parts.begin(), parts.end()));
    CHECK(arena.reserved_bytes() == region);
    arena.deallocate(whole, region);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("arena: takes the smallest block that fits") {
  if (!keeps_regions()) return;
  Arena arena;
  std::byte *large = arena.allocate(1_MiB), *wall = arena.allocate(64), *small = arena.allocate(64_KiB),
            *end = arena.allocate(64);
  arena.deallocate(large, 1_MiB);
  arena.deallocate(small, 64_KiB);
  std::byte* again = arena.allocate(64_KiB - 5);
  CHECK(again == small);
  std::byte* other = arena.allocate(64_KiB);
  CHECK(other == large);
  arena.deallocate(again, 64_KiB - 5);
  arena.deallocate(other, 64_KiB);
  arena.deallocate(wall, 64);
  arena.deallocate(end, 64);
}

TEST_CASE("arena: a repeated pattern takes nothing new from the system") {
  if (!keeps_regions()) return;
  Arena arena;
  size_t reserved = 0;
  for (int step = 0; step < 50; ++step) {
    // As a training step does: activations come in a row, go in reverse with workspaces in between.
    std::vector<std::pair<std::byte*, size_t>> blocks;
    for (size_t i = 0; i < 40; ++i) {
      const size_t bytes = 100000 + i * 37813 % 3000000;
      std::byte* workspace = arena.allocate(777777);
      blocks.emplace_back(arena.allocate(bytes), bytes);
      arena.deallocate(workspace, 777777);
    }
    while (!blocks.empty()) {
      std::byte* gradient = arena.allocate(blocks.back().second);
      arena.deallocate(blocks.back().first, blocks.back().second);
      arena.deallocate(gradient, blocks.back().second);
      blocks.pop_back();
    }
    if (step == 0) reserved = arena.reserved_bytes();
    REQUIRE(arena.reserved_bytes() == reserved);
  }
}

TEST_CASE("arena: random blocks never overlap, and all of it is free again at the end") {
  Arena arena;
  Random random({.seed = 1, .stream = Stream::test, .step = 0, .item = 0});
  struct Block {
    std::byte* begin;
    size_t bytes;
    std::byte stamp;
  };
  std::vector<Block> blocks;
  for (int i = 0; i < 20000; ++i) {
    if (blocks.size() < 200 && random.below(blocks.size() < 100 ? 3 : 2) != 0) {
      const size_t bytes = random.below(4) == 0 ? random.below(100000) : random.below(300);
      const auto stamp = static_cast<std::byte>(i);
      blocks.push_back({arena.allocate(bytes), bytes, stamp});
      REQUIRE(is_aligned(blocks.back().begin));
      std::memset(blocks.back().begin, i, bytes);
    } else if (!blocks.empty()) {
      std::swap(blocks[random.below(static_cast<uint32_t>(blocks.size()))], blocks.back());
      const Block last = blocks.back();
      REQUIRE(std::all_of(last.begin, last.begin + last.bytes, [&](std::byte b) { return b == last.stamp; }));
      arena.deallocate(last.begin, last.bytes);
      blocks.pop_back();
    }
  }
  for (const Block& block : blocks) arena.deallocate(block.begin, block.bytes);
  const size_t reserved = arena.reserved_bytes();
  if (!keeps_regions()) {
    CHECK(reserved == 0);
    return;
  }
  CHECK(reserved == 32_MiB);  // 200 blocks of at most 100,000 bytes fit into the first region
  std::byte* whole = arena.allocate(reserved);
  CHECK(arena.reserved_bytes() == reserved);
  arena.deallocate(whole, reserved);
}

TEST_CASE("arena: what no machine has is a MemoryError, and the arena goes on") {
  Arena arena;
  std::byte* block = arena.allocate(100);
  const size_t reserved = arena.reserved_bytes();
  for (size_t bytes : {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, size_t{1} << 62, size_t{1} << 48})
    CHECK_THROWS_AS(arena.allocate(bytes), MemoryError);
  CHECK(arena.reserved_bytes() == reserved);
  std::byte* other = arena.allocate(100);
  CHECK(other != block);
  arena.deallocate(block, 100);
  arena.deallocate(other, 100);
}

TEST_CASE("memory: the account by category, and its peak") {
  Memory& memory = Memory::of({});
  const Live before;
  const size_t activations = memory.activation_bytes();
  memory.reset_peak();
  CHECK(memory.peak_activation_bytes() == activations);

  std::byte* a = memory.allocate(1000, Category::activations);
  std::byte* w = memory.allocate(77, Category::workspace);
  std::byte* p = memory.allocate(5000, Category::parameters);
  CHECK(memory.live_bytes(Category::activations) == before.activations + 1000);
  CHECK(memory.live_bytes(Category::workspace) == before.workspace + 77);
  CHECK(memory.live_bytes(Category::parameters) == before.parameters + 5000);
  CHECK(memory.activation_bytes() == activations + 1077);
  memory.deallocate(w, 77, Category::workspace);
  CHECK(memory.peak_activation_bytes() == activations + 1077);  // parameters do not count

  memory.recategorize(5000, Category::parameters, Category::activations);
  CHECK(memory.peak_activation_bytes() == activations + 6000);
  memory.recategorize(5000, Category::activations, Category::parameters);
  memory.deallocate(p, 5000, Category::parameters);
  memory.deallocate(a, 1000, Category::activations);
  CHECK(Live() == before);
  CHECK(memory.peak_activation_bytes() == activations + 6000);
  memory.reset_peak();
  CHECK(memory.peak_activation_bytes() == activations);
}

TEST_CASE("memory: tensors are accounted to their category, and everything returns to zero") {
  const Live before;
  {
    const Tensor parameter = Tensor::full({10}, 1, DType::f64, Category::parameters),
                 activation = Tensor::empty({7, 3}), empty = Tensor::empty({0, 5});
    const Tensor view = activation.view({3}), copy = parameter;
    CHECK(Live().parameters == before.parameters + 80);
    CHECK(Live().activations == before.activations + 84);
  }
  CHECK(Live() == before);
}

TEST_CASE("memory: a request that cannot be kept changes nothing in the account") {
  const Live before;
  const size_t peak = Memory::of({}).peak_activation_bytes();
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 59}, DType::f64), MemoryError);
  CHECK(Live() == before);
  CHECK(Memory::of({}).peak_activation_bytes() == peak);
}

TEST_CASE("memory: names of categories, sizes, and devices that are not there") {
  CHECK(name_of(Category::parameters) == "parameters");
  CHECK(name_of(Category::workspace) == "workspace");
  CHECK(3_KiB == 3072);
  CHECK(2_MiB == 2097152);
  CHECK_THROWS_AS(Memory::of({DeviceKind::cuda, 99}), DeviceError);
}

namespace {

// A source of 9 KiB, as a small device would be.
struct SmallSource final : ByteSource {
  explicit SmallSource(size_t& taken_bytes) : taken(taken_bytes) { granularity = 1_KiB, smallest_region = 4_KiB; }
  std::byte* take(size_t bytes) override {
    if (taken + bytes > 9_KiB) return nullptr;
    taken += bytes;
    return static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
  }
  void give_back(std::byte* region, size_t bytes) override {
    taken -= bytes;
    std::free(region);
  }
  std::string name() const override { return "the source"; }
  size_t& taken;
};

}  // namespace

TEST_CASE("arena: where a source runs short, it asks for less, gives back what is unused, and then says so") {
  size_t taken = 0;
  {
    Arena arena(std::make_unique<SmallSource>(taken));
    std::byte *a = arena.allocate(3_KiB), *b = arena.allocate(3_KiB);
    CHECK(taken == 8_KiB);
    CHECK_THROWS_WITH_AS(arena.allocate(2_KiB), "[memory] the source has no 2048 bytes left", MemoryError);
    std::byte* c = arena.allocate(1_KiB);  // a refusal has changed nothing
    arena.deallocate(a, 3_KiB);
    arena.deallocate(c, 1_KiB);
    std::byte* d =
        arena.allocate(4_KiB + 1);  // there is room for a region of 5 KiB once the unused one of 4 has gone back
    CHECK_THROWS_AS(arena.allocate(4_KiB), MemoryError);
    CHECK(taken == 9_KiB);
    arena.deallocate(b, 3_KiB);
    arena.deallocate(d, 4_KiB + 1);
  }
  CHECK(taken == 0);
}

TEST_CASE("arena: neighbouring regions stay apart") {
  static std::byte bytes[8_KiB];
  struct Neighbours final : ByteSource {
    Neighbours() { alignment = 1, granularity = 4_KiB, smallest_region = 4_KiB; }
    std::byte* take(size_t size) override {
      return used + size > sizeof bytes ? nullptr : bytes + std::exchange(used, used + size);
    }
    void give_back(std::byte*, size_t) override {}
    std::string name() const override { return "neighbours"; }
    size_t used = 0;
  };
  Arena arena(std::make_unique<Neighbours>());
  std::byte *a = arena.allocate(4_KiB), *b = arena.allocate(4_KiB);
  arena.deallocate(b, 4_KiB);
  arena.deallocate(a, 4_KiB);
  CHECK_THROWS_AS(arena.allocate(8_KiB), MemoryError);
}

namespace {

// Random lives of a step: blocks that are asked for and freed in any order.
std::vector<BlockLife> random_lives(uint32_t seed, size_t& most) {
  Random random({.seed = 2, .stream = Stream::test, .step = 0, .item = seed});
  std::vector<BlockLife> lives;
  std::vector<size_t> alive;
  size_t bytes = 0;
  most = 0;
  for (uint64_t time = 0; time < 120; ++time) {
    if (alive.empty() || random.below(2) == 0) {
      alive.push_back(lives.size());
      lives.push_back({64 * (1 + random.below(20)), time, 120});
      most = std::max(most, bytes += lives.back().bytes);
    } else {
      std::swap(alive[random.below(static_cast<uint32_t>(alive.size()))], alive.back());
      lives[alive.back()].end = time;
      bytes -= lives[alive.back()].bytes;
      alive.pop_back();
    }
  }
  return lives;
}

}  // namespace

TEST_CASE("arena: planned places never overlap in time and space, and waste little") {
  double waste = 0;
  constexpr uint32_t plans = 100;
  for (uint32_t seed = 0; seed < plans; ++seed) {
    size_t most = 0;
    const std::vector<BlockLife> lives = random_lives(seed, most);
    const ArenaPlan plan = plan_arena(lives, 64);
    REQUIRE(plan.places.size() == lives.size());
    for (size_t i = 0; i < lives.size(); ++i) {
      REQUIRE(plan.places[i].offset % 64 == 0);
      REQUIRE(plan.places[i].bytes == lives[i].bytes);
      REQUIRE(plan.places[i].offset + plan.places[i].bytes <= plan.bytes);
      for (size_t k = 0; k < i; ++k) {
        if (lives[k].end <= lives[i].begin || lives[i].end <= lives[k].begin) continue;
        const ArenaPlan::Place &a = plan.places[i], &b = plan.places[k];
        const bool apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
        REQUIRE(apart);
      }
    }
    REQUIRE(plan.bytes >= most);
    waste += static_cast<double>(plan.bytes - most) / static_cast<double>(most) / plans;
  }
  CHECK(waste < 0.05);
  CHECK(plan_arena(std::vector<BlockLife>{}, 64).bytes == 0);
  const ArenaPlan odd = plan_arena(std::vector<BlockLife>{{1, 0, 2}, {0, 1, 3}}, 256);  // sizes are rounded up
  CHECK(odd.bytes == 512);
}

TEST_CASE("memory: blocks of a step lie where its plan says, and elsewhere where that is taken or too small") {
  if (!keeps_regions()) return;
  Memory memory(system_memory());
  // In the order in which they are asked for: a and b live together, c comes after b, where b was.
  const ArenaPlan plan{.places = {{0, 1_MiB}, {1_MiB, 2_MiB}, {1_MiB, 1_MiB}}, .bytes = 3_MiB};
  const auto get = [&](size_t bytes) { return memory.allocate(bytes, Category::activations); };
  const auto drop = [&](std::byte* block, size_t bytes) { memory.deallocate(block, bytes, Category::activations); };
  std::byte* start = nullptr;
  for (int step = 0; step < 3; ++step) {
    memory.follow(&plan);
    std::byte *a = get(1_MiB), *lasting = memory.allocate(1_MiB, Category::gradients), *b = get(2_MiB);
    if (step == 0) start = a;
    CHECK(a == start);
    CHECK(b == a + 1_MiB);
    drop(b, 2_MiB);
    CHECK(get(1_MiB) == b);
    std::byte* more = get(64);  // more blocks than planned: in what the plan's region has left
    CHECK(more == b + 1_MiB);
    drop(more, 64), drop(b, 1_MiB), drop(a, 1_MiB);
    memory.deallocate(lasting, 1_MiB, Category::gradients);
  }
  const size_t reserved = memory.reserved_bytes();
  memory.follow(&plan);
  std::byte* held = get(1_MiB);  // and not given back before the next step
  CHECK(held == start);
  memory.follow(&plan);
  std::byte *elsewhere = get(1_MiB), *larger = get(2_MiB + 1);
  CHECK(elsewhere != start);
  CHECK(larger != start + 1_MiB);
  drop(held, 1_MiB), drop(elsewhere, 1_MiB), drop(larger, 2_MiB + 1);
  memory.follow(nullptr);
  CHECK(memory.activation_bytes() == 0);
  CHECK(memory.reserved_bytes() >= reserved);
}

TEST_CASE("memory: planning takes no memory and records the lives of blocks") {
  Memory memory(system_memory());
  std::byte* before = memory.allocate(100, Category::activations);
  const size_t reserved = memory.reserved_bytes();
  BlockRecord record;
  memory.begin_planning(&record);
  std::byte *a = memory.allocate(1_MiB << 10, Category::activations), *b = memory.allocate(7, Category::workspace);
  CHECK(memory.activation_bytes() == (1_MiB << 10) + 107);
  memory.deallocate(b, 7, Category::workspace);
  std::byte* c = memory.allocate(9, Category::activations);
  memory.deallocate(a, 1_MiB << 10, Category::activations);
  memory.deallocate(c, 9, Category::activations);
  memory.end_planning();
  CHECK(memory.reserved_bytes() == reserved);
  CHECK(memory.activation_bytes() == 100);
  REQUIRE(record.lives.size() == 3);
  CHECK(memory.plan_for(record).bytes == (1_MiB << 10) + 64);  // b and c share a place
  memory.deallocate(before, 100, Category::activations);
}

}  // namespace parabola::memory_test
