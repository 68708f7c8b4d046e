#include "engine/core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "engine/core/device.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr size_t huge_page = 2_MiB;
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

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
  // One huge page more than needed, so that an aligned region can be cut out of it.
  std::byte* take(size_t bytes) override {
    void* mapped = mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    auto* begin = static_cast<std::byte*>(mapped);
    const auto address = reinterpret_cast<uintptr_t>(mapped);
    std::byte* region = begin + (round_up(address, huge_page) - address);
    if (region > begin) munmap(begin, static_cast<size_t>(region - begin));
    munmap(region + bytes, static_cast<size_t>(begin + huge_page - region));
    madvise(region, bytes, MADV_HUGEPAGE);  // a wish: where it is not granted all is only slower
    return region;
  }
  void give_back(std::byte* region, size_t bytes) override { munmap(region, bytes); }
  std::string name() const override { return "the system"; }
};
#endif

}  // namespace

std::unique_ptr<ByteSource> system_memory() { return std::make_unique<SystemMemory>(); }

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
  for (const auto& [begin, bytes] : regions_) source_->give_back(begin, bytes);
}

// An empty tensor still gets a block of its own: an address is its identity.
size_t Arena::block_size(size_t bytes) const {
  const size_t size = std::max<size_t>(bytes, 1);
  return source_->smallest_region > 0 ? round_up(size, source_->alignment) : size;
}

std::byte* Arena::allocate(size_t bytes) {
  if (bytes > source_->limit) fail<MemoryError>("memory", "cannot allocate ", bytes, " bytes");
  const size_t size = block_size(bytes);
  if (source_->smallest_region == 0) {
    std::byte* block = source_->take(size);
    if (!block) fail<MemoryError>("memory", source_->name(), " has no ", size, " bytes left");
    reserved_ += size;
    return block;
  }
  auto best = free_by_size_.lower_bound({size, nullptr});
  if (best == free_by_size_.end()) {
    if (!grow(size)) {
      give_back_unused();
      if (!grow(size)) fail<MemoryError>("memory", source_->name(), " has no ", size, " bytes left");
    }
    best = free_by_size_.lower_bound({size, nullptr});
  }
  const auto [free_bytes, block] = *best;
  remove_free(block, free_bytes);
  if (free_bytes > size) add_free(block + size, free_bytes - size);
  return block;
}

bool Arena::grow(size_t size) {
  size_t bytes = round_up(std::max(size, source_->smallest_region), source_->granularity);
  std::byte* region = source_->take(bytes);
  if (!region && bytes > round_up(size, source_->granularity)) {
    bytes = round_up(size, source_->granularity);
    region = source_->take(bytes);
  }
  if (!region) return false;
  regions_.emplace(region, bytes);
  reserved_ += bytes;
  add_free(region, bytes);
  return true;
}

void Arena::give_back_unused() {
  for (auto region = regions_.begin(); region != regions_.end();) {
    const auto [begin, bytes] = *region;
    const auto free = free_by_address_.find(begin);
    if (free == free_by_address_.end() || free->second != bytes) {
      ++region;
      continue;
    }
    remove_free(begin, bytes);
    source_->give_back(begin, bytes);
    reserved_ -= bytes;
    region = regions_.erase(region);
  }
}

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
  free_by_size_.emplace(bytes, block);
}

void Arena::remove_free(std::byte* block, size_t bytes) {
  free_by_address_.erase(block);
  free_by_size_.erase({bytes, block});
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
  std::byte* block = arena_.allocate(bytes);
  live_[static_cast<size_t>(category)] += bytes;
  peak_ = std::max(peak_, activation_bytes());
  return block;
}

void Memory::recategorize(size_t bytes, Category from, Category to) {
  live_[static_cast<size_t>(from)] -= bytes;
  live_[static_cast<size_t>(to)] += bytes;
  peak_ = std::max(peak_, activation_bytes());
}

void Memory::deallocate(std::byte* block, size_t bytes, Category category) {
  arena_.deallocate(block, bytes);
  live_[static_cast<size_t>(category)] -= bytes;
}

}  // namespace parabola
