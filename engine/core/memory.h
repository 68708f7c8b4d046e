// Memory of one device: an arena that owns the bytes, and the account of who holds how many of them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/arena_plan.h"
#include "engine/core/dtype.h"

namespace parabola {

// What bytes are for. "Activation bytes" are the unpinned ones, activations + workspace: outputs and auxiliary results
// of ops, gradients of activations, workspace of kernels. The others live as long as the model, the optimizer or the
// batch.
enum class Category : uint8_t { parameters, gradients, optimizer, inputs, activations, workspace };
constexpr size_t category_count = 6;
std::string_view name_of(Category category);

constexpr size_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr size_t operator""_MiB(unsigned long long n) { return n << 20; }

std::string bytes_text(size_t bytes);  // 812 B, 1.5 MiB

// Where an arena's regions come from: the system's memory, or that of a device.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::byte* take(size_t bytes) = 0;  // aligned to `alignment` at least; null where there is no more
  virtual void give_back(std::byte* region, size_t bytes) = 0;
  virtual std::string name() const = 0;  // who has no more: "the system", "cuda:0"

  size_t alignment = 64;            // of blocks: a cache line, an AVX-512 vector
  size_t granularity = 2_MiB;       // regions are multiples of it
  size_t smallest_region = 32_MiB;  // 0: blocks are taken one by one and exactly as long as they were asked for
  size_t limit = size_t{1} << 47;   // bytes that cannot be had anyhow: the address space of a process on x86-64
};

// Addresses for plans: memory that no page stands behind until it is touched, on whatever device the step is to run.
std::unique_ptr<ByteSource> untouched_memory();

// The system's memory. Regions are aligned to 2 MiB and ask for huge pages as far as they fill them, which doubles the
// memory bandwidth of machines whose transparent huge pages are in "madvise" mode. Under AddressSanitizer blocks are
// mallocs of their own, so that a kernel that writes one element too far is caught.
std::unique_ptr<ByteSource> system_memory();

// Best-fit allocator over large regions that it takes once and keeps: after the first steps of a training run no page
// is fresh any more, and a device is not asked (which would make it wait for all its work). Blocks of a step, which are
// all free again when it has ended, have regions of their own: nothing that stays ever lies between them.
class Arena {
 public:
  explicit Arena(std::unique_ptr<ByteSource> source = system_memory());
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  enum class Use : uint8_t { lasting, step };
  // MemoryError where the source has no more; nothing has changed then.
  std::byte* allocate(size_t bytes, Use use = Use::lasting);
  void deallocate(std::byte* block, size_t bytes);
  // Has a region of so many bytes for planned places, if the source has them; regions that are not in use go back
  // first.
  void reserve(size_t bytes);
  std::byte* allocate_at(size_t offset, size_t bytes);  // in that region; null where that is not free
  void give_back_unused();                              // every region of which no block is in use
  bool owns(const std::byte* block) const;
  size_t alignment() const { return source_->alignment; }
  size_t reserved_bytes() const { return reserved_; }

 private:
  struct Region {
    size_t bytes;
    Use use;
  };
  std::byte* grow(size_t size, Use use, size_t least);  // a region in which `size` bytes have room, at best `least`
  using Regions = std::map<std::byte*, Region, std::less<>>;
  Regions::const_iterator region_of(const std::byte* block) const;  // in which it lies; end(): in none
  size_t block_size(size_t bytes) const;
  void add_free(std::byte* block, size_t bytes);
  void remove_free(std::byte* block, size_t bytes);
  std::unique_ptr<ByteSource> source_;
  Regions regions_;
  std::map<std::byte*, size_t> free_by_address_;
  std::array<std::set<std::pair<size_t, std::byte*>>, 2> free_by_size_;  // by use
  std::byte* planned_ = nullptr;                                         // the region for planned places; null: none
  size_t reserved_ = 0;
};

// The lives of a step's blocks, as they are asked for and freed.
struct BlockRecord {
  std::vector<BlockLife> lives;
  std::unordered_map<const std::byte*, size_t> alive;  // blocks, by index in `lives`
  uint64_t clock = 0;
};

// The account. Counts the bytes that were asked for, so a plan made without data can predict it to the byte.
class Memory {
 public:
  static Memory& of(Device device);  // DeviceError where there is no such device
  explicit Memory(std::unique_ptr<ByteSource> source) : arena_(std::move(source)) {}

  std::byte* allocate(size_t bytes, Category category);
  void deallocate(std::byte* block, size_t bytes, Category category);
  void recategorize(size_t bytes, Category from, Category to);

  // From now on the k-th block of activation bytes lies at the plan's k-th place, where that is free and large enough;
  // any other block where it fits best, first of all in the plan's region. Null: all do.
  void follow(const ArenaPlan* plan);
  ArenaPlan plan_for(const BlockRecord& record) const { return plan_arena(record.lives, arena_.alignment()); }

  // While a step is planned, activation bytes are only accounted, not taken from the device; and recorded, if not null.
  void begin_planning(BlockRecord* record);
  void end_planning();

  size_t live_bytes(Category category) const { return live_[static_cast<size_t>(category)]; }
  size_t activation_bytes() const { return live_bytes(Category::activations) + live_bytes(Category::workspace); }
  size_t peak_activation_bytes() const { return peak_; }  // since the last reset
  void reset_peak() { peak_ = activation_bytes(); }
  size_t reserved_bytes() const { return arena_.reserved_bytes(); }

 private:
  std::byte* take(size_t bytes, Category category);
  Arena arena_, planning_arena_{untouched_memory()};
  const ArenaPlan* plan_ = nullptr;
  size_t next_place_ = 0;
  bool planning_ = false;
  BlockRecord* record_ = nullptr;
  std::array<size_t, category_count> live_{};
  size_t peak_ = 0;
};

}  // namespace parabola
