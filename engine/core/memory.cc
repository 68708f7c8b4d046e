#include "engine/core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "engine/core/error.h"

// Under AddressSanitizer every block is a malloc of its own, so that a kernel that writes one element too far is
// caught.
#if defined(__SANITIZE_ADDRESS__)
#define PARABOLA_PLAIN_MALLOC 1
#else
#define PARABOLA_PLAIN_MALLOC 0
#endif

namespace parabola {
namespace {
constexpr size_t alignment = 64, huge_page = 2_MiB, smallest_region = 32_MiB;
constexpr size_t address_space = size_t{1} << 47;  // of a process on x86-64: more can be had nowhere
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
// An empty tensor still gets a block of its own: an address is its identity.
size_t block_size(size_t bytes) { return round_up(std::max<size_t>(bytes, 1), alignment); }
}  // namespace

std::string_view name_of(Category category) {
  constexpr std::array<std::string_view, category_count> names = {"parameters", "gradients",   "optimizer",
                                                                  "inputs",     "activations", "workspace"};
  return names[static_cast<size_t>(category)];
}

Arena::~Arena() {
  for (const Region& region : regions_) munmap(region.begin, region.bytes);
}

std::byte* Arena::allocate(size_t bytes) {
  if (bytes > address_space) fail<MemoryError>("memory", "cannot allocate ", bytes, " bytes");
  const size_t size = block_size(bytes);
  if (PARABOLA_PLAIN_MALLOC) {
    auto* block = static_cast<std::byte*>(std::aligned_alloc(alignment, size));
    if (!block) fail<MemoryError>("memory", "the system has no ", size, " bytes left");
    reserved_ += size;
    return block;
  }
  auto best = free_by_size_.lower_bound({size, nullptr});
  if (best == free_by_size_.end()) {
    const size_t region = round_up(std::max(size, smallest_region), huge_page);
    // One huge page more than needed, so that an aligned region can be cut out of it.
    void* mapped = mmap(nullptr, region + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) fail<MemoryError>("memory", "the system has no ", region, " bytes left");
    auto* begin = static_cast<std::byte*>(mapped);
    regions_.push_back({begin, region + huge_page});
    begin = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(begin), huge_page));
    madvise(begin, region, MADV_HUGEPAGE);  // a wish: where it is not granted all is only slower
    reserved_ += region;
    add_free(begin, region);
    best = free_by_size_.lower_bound({size, nullptr});
  }
  const auto [free_bytes, block] = *best;
  remove_free(block, free_bytes);
  if (free_bytes > size) add_free(block + size, free_bytes - size);
  return block;
}

void Arena::deallocate(std::byte* block, size_t bytes) {
  size_t size = block_size(bytes);
  if (PARABOLA_PLAIN_MALLOC) {
    std::free(block);
    reserved_ -= size;
    return;
  }
  auto next = free_by_address_.lower_bound(block);
  if (next != free_by_address_.end() && next->first == block + size) {
    const auto [address, more] = *next;
    remove_free(address, more);
    size += more;
    next = free_by_address_.lower_bound(block);
  }
  if (next != free_by_address_.begin()) {
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

Memory& Memory::of(Device device) {
  if (device.kind != DeviceKind::cpu) fail<DeviceError>("memory", "no device ", device.str(), " in this build");
  static Memory& cpu = *new Memory;  // never destroyed: a tensor in a static variable may live longer
  return cpu;
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
