#include "engine/core/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "engine/core/device.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr size_t huge_page = 2_MiB;
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// One huge page more than needed, so that an aligned region can be cut out of it. Null: there is no more.
std::byte* map_pages(size_t bytes, int flags) {
  void* mapped = mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<uintptr_t>(mapped);
  std::byte* region = begin + (round_up(address, huge_page) - address);
  if (region > begin) munmap(begin, static_cast<size_t>(region - begin));
  munmap(region + bytes, static_cast<size_t>(begin + huge_page - region));
  return region;
}

class UntouchedMemory final : public ByteSource {
 public:
  std::byte* take(size_t bytes) override { return map_pages(bytes, MAP_NORESERVE); }
  void give_back(std::byte* region, size_t bytes) override { munmap(region, bytes); }
  std::string name() const override { return "the address space"; }
};

#if defined(__SANITIZE_ADDRESS__)
class SystemMemory final : public ByteSource {
 public:
  SystemMemory() { smallest_region = 0; }
  std::byte* take(size_t bytes) override {
    void* block = nullptr;
    return posix_memalign(&block, alignment, bytes) == 0 ? static_cast<std::byte*>(block) : nullptr;
  }
  void give_back(std::byte* block, size_t) override { std::free(block); }
  std::string name() const override { return "the system"; }
};
#else
class SystemMemory final : public ByteSource {
 public:
  SystemMemory() { granularity = static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  // Huge pages as far as the region fills them: one that it fills in part would be taken whole.
  std::byte* take(size_t bytes) override {
    std::byte* region = map_pages(bytes, 0);
    if (region) madvise(region, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // a wish: without, all is only slower
    return region;
  }
  void give_back(std::byte* region, size_t bytes) override { munmap(region, bytes); }
  std::string name() const override { return "the system"; }
};
#endif

bool is_of_step(Category category) { return category == Category::activations || category == Category::workspace; }

}  // namespace

std::unique_ptr<ByteSource> system_memory() { return std::make_unique<SystemMemory>(); }
std::unique_ptr<ByteSource> untouched_memory() { return std::make_unique<UntouchedMemory>(); }

std::string_view name_of(Category category) {
  constexpr std::array<std::string_view, category_count> names = {"parameters", "gradients",   "optimizer",
                                                                  "inputs",     "activations", "workspace"};
  return names[static_cast<size_t>(category)];
}

std::string bytes_text(size_t bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= (unit ? 1023.95 : 1024) && unit + 1 < units.size(); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

Arena::Arena(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

Arena::~Arena() {
  for (const auto& [begin, region] : regions_) source_->give_back(begin, region.bytes);
}

// An empty tensor still gets a block of its own: an address is its identity.
size_t Arena::block_size(size_t bytes) const {
  const size_t size = std::max<size_t>(bytes, 1);
  return source_->smallest_region > 0 ? round_up(size, source_->alignment) : size;
}

std::byte* Arena::allocate(size_t bytes, Use use) {
  if (bytes > source_->limit) fail<MemoryError>("memory", "cannot allocate ", bytes, " bytes");
  const size_t size = block_size(bytes);
  if (source_->smallest_region == 0) {
    std::byte* block = source_->take(size);
    if (!block) fail<MemoryError>("memory", source_->name(), " has no ", size, " bytes left");
    reserved_ += size;
    return block;
  }
  const auto& free = free_by_size_[static_cast<size_t>(use)];
  auto best = free.lower_bound({size, nullptr});
  if (best == free.end()) {
    if (!grow(size, use, source_->smallest_region)) {
      give_back_unused();
      if (!grow(size, use, source_->smallest_region))
        fail<MemoryError>("memory", source_->name(), " has no ", size, " bytes left");
    }
    best = free.lower_bound({size, nullptr});
  }
  const auto [free_bytes, block] = *best;
  remove_free(block, free_bytes);
  if (free_bytes > size) add_free(block + size, free_bytes - size);
  return block;
}

void Arena::reserve(size_t bytes) {
  if (bytes == 0 || source_->smallest_region == 0 || (planned_ && regions_.at(planned_).bytes >= bytes)) return;
  give_back_unused();
  planned_ = grow(bytes, Use::step, bytes);
}

std::byte* Arena::allocate_at(size_t offset, size_t bytes) {
  if (!planned_) return nullptr;
  std::byte* const block = planned_ + offset;
  const size_t size = block_size(bytes);
  auto free = free_by_address_.upper_bound(block);
  if (free == free_by_address_.begin()) return nullptr;
  const auto [begin, free_bytes] = *--free;
  if (begin + free_bytes < block + size) return nullptr;
  remove_free(begin, free_bytes);
  if (begin < block) add_free(begin, static_cast<size_t>(block - begin));
  if (block + size < begin + free_bytes) add_free(block + size, static_cast<size_t>(begin + free_bytes - block) - size);
  return block;
}

std::byte* Arena::grow(size_t size, Use use, size_t least) {
  size_t bytes = round_up(std::max(size, least), source_->granularity);
  std::byte* region = source_->take(bytes);
  if (!region && bytes > round_up(size, source_->granularity)) {
    bytes = round_up(size, source_->granularity);
    region = source_->take(bytes);
  }
  if (!region) return nullptr;
  regions_.emplace(region, Region{bytes, use});
  reserved_ += bytes;
  add_free(region, bytes);
  return region;
}

void Arena::give_back_unused() {
  for (auto region = regions_.begin(); region != regions_.end();) {
    std::byte* const begin = region->first;
    const size_t bytes = region->second.bytes;
    const auto free = free_by_address_.find(begin);
    if (free == free_by_address_.end() || free->second != bytes) {
      ++region;
      continue;
    }
    remove_free(begin, bytes);
    source_->give_back(begin, bytes);
    reserved_ -= bytes;
    if (begin == planned_) planned_ = nullptr;
    region = regions_.erase(region);
  }
}

Arena::Regions::const_iterator Arena::region_of(const std::byte* block) const {
  const auto after = regions_.upper_bound(block);
  if (after == regions_.begin()) return regions_.end();
  const auto region = std::prev(after);
  return block < region->first + region->second.bytes ? region : regions_.end();
}

bool Arena::owns(const std::byte* block) const { return region_of(block) != regions_.end(); }

void Arena::deallocate(std::byte* block, size_t bytes) {
  size_t size = block_size(bytes);
  if (source_->smallest_region == 0) {
    source_->give_back(block, size);
    reserved_ -= size;
    return;
  }
  // Blocks are not merged across the ends of regions: a region must stay one that can be given back, and a device
  // copies only within one.
  auto next = free_by_address_.lower_bound(block);
  if (next != free_by_address_.end() && next->first == block + size && !regions_.contains(next->first)) {
    const auto [address, more] = *next;
    remove_free(address, more);
    size += more;
    next = free_by_address_.lower_bound(block);
  }
  if (next != free_by_address_.begin() && !regions_.contains(block)) {
    const auto [address, more] = *std::prev(next);
    if (address + more == block) {
      remove_free(address, more);
      block = address;
      size += more;
    }
  }
  add_free(block, size);
}

void Arena::add_free(std::byte* block, size_t bytes) {
  free_by_address_.emplace(block, bytes);
  free_by_size_[static_cast<size_t>(region_of(block)->second.use)].emplace(bytes, block);
}

void Arena::remove_free(std::byte* block, size_t bytes) {
  free_by_address_.erase(block);
  free_by_size_[static_cast<size_t>(region_of(block)->second.use)].erase({bytes, block});
}

// Accounts are never destroyed: a tensor in a static variable may live longer.
Memory& Memory::of(Device device) {
  if (device.kind == DeviceKind::cpu) {
    static Memory& cpu = *new Memory(system_memory());
    return cpu;
  }
  static auto& devices = *new std::map<int, Memory>;
  const auto known = devices.find(device.index);
  if (known != devices.end()) return known->second;
  return devices.try_emplace(device.index, backend_of(device).memory(device.index)).first->second;
}

std::byte* Memory::allocate(size_t bytes, Category category) {
  std::byte* block = take(bytes, category);
  live_[static_cast<size_t>(category)] += bytes;
  peak_ = std::max(peak_, activation_bytes());
  return block;
}

std::byte* Memory::take(size_t bytes, Category category) {
  if (!is_of_step(category)) return arena_.allocate(bytes);
  if (planning_) {
    std::byte* block = planning_arena_.allocate(bytes);
    if (record_) {
      record_->alive[block] = record_->lives.size();
      record_->lives.push_back({bytes, record_->clock++, UINT64_MAX});
    }
    return block;
  }
  if (plan_ && next_place_ < plan_->places.size()) {
    const ArenaPlan::Place& place = plan_->places[next_place_++];
    std::byte* block = bytes <= place.bytes ? arena_.allocate_at(place.offset, bytes) : nullptr;
    if (block) return block;
  }
  return arena_.allocate(bytes, Arena::Use::step);
}

void Memory::recategorize(size_t bytes, Category from, Category to) {
  live_[static_cast<size_t>(from)] -= bytes;
  live_[static_cast<size_t>(to)] += bytes;
  peak_ = std::max(peak_, activation_bytes());
}

void Memory::deallocate(std::byte* block, size_t bytes, Category category) {
  if (record_)
    if (const auto alive = record_->alive.extract(block)) record_->lives[alive.mapped()].end = record_->clock++;
  (planning_arena_.owns(block) ? planning_arena_ : arena_).deallocate(block, bytes);
  live_[static_cast<size_t>(category)] -= bytes;
}

void Memory::follow(const ArenaPlan* plan) {
  plan_ = plan;
  next_place_ = 0;
  if (plan && !planning_) arena_.reserve(plan->bytes);
}

void Memory::begin_planning(BlockRecord* record) { planning_ = true, record_ = record; }

void Memory::end_planning() {
  planning_ = false;
  record_ = nullptr;
  planning_arena_.give_back_unused();
}

}  // namespace parabola
