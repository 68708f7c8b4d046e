// Memory of one device: an arena that owns the bytes, and the account of who holds how many of them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <vector>

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

// Best-fit allocator over large regions that it maps once and keeps: after the first steps of a training run no page is
// fresh any more. Regions are aligned to 2 MiB and ask for huge pages, which doubles the memory bandwidth of machines
// whose transparent huge pages are in "madvise" mode. Blocks are aligned to 64 bytes (a cache line, an AVX-512 vector).
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* allocate(size_t bytes);  // MemoryError where the system has no more
  void deallocate(std::byte* block, size_t bytes);
  size_t reserved_bytes() const { return reserved_; }

 private:
  void add_free(std::byte* block, size_t bytes);
  void remove_free(std::byte* block, size_t bytes);
  struct Region {
    std::byte* begin;
    size_t bytes;
  };
  std::vector<Region> regions_;
  std::map<std::byte*, size_t> free_by_address_;
  std::set<std::pair<size_t, std::byte*>> free_by_size_;
  size_t reserved_ = 0;
};

// The account. Counts the bytes that were asked for, so a plan made without data can predict it to the byte.
class Memory {
 public:
  static Memory& of(Device device);

  std::byte* allocate(size_t bytes, Category category);
  void deallocate(std::byte* block, size_t bytes, Category category);
  void recategorize(size_t bytes, Category from, Category to);

  size_t live_bytes(Category category) const { return live_[static_cast<size_t>(category)]; }
  size_t activation_bytes() const { return live_bytes(Category::activations) + live_bytes(Category::workspace); }
  size_t peak_activation_bytes() const { return peak_; }  // since the last reset
  void reset_peak() { peak_ = activation_bytes(); }
  size_t reserved_bytes() const { return arena_.reserved_bytes(); }

 private:
  Arena arena_;
  std::array<size_t, category_count> live_{};
  size_t peak_ = 0;
};

}  // namespace parabola
