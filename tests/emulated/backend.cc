// The emulated devices: their memory is mallocs of their own, out of the host's reach while no kernel or copy runs.
#include <cstdlib>
#include <cstring>
#include <map>

#include "engine/core/device.h"
#include "engine/core/error.h"
#include "tests/emulated/grid.h"

extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}

namespace parabola::emulated {
namespace {

size_t memory_limit = size_t{1} << 30;
int open_count = 0;
std::map<std::byte*, size_t> blocks;
char streams[device_count];

void set_open(std::byte* block, size_t bytes, bool open) {
  const auto set = open ? __asan_unpoison_memory_region : __asan_poison_memory_region;
  if (set) set(block, bytes);
}

class EmulatedMemory final : public ByteSource {
 public:
  explicit EmulatedMemory(int index) : index_(index) {
    alignment = 256;  // as cudaMalloc's
    smallest_region = 0;
  }
  std::byte* take(size_t bytes) override {
    void* memory = nullptr;
    if (taken_ + bytes > memory_limit || posix_memalign(&memory, alignment, bytes) != 0) return nullptr;
    std::memset(memory, 0xff, bytes);  // NaN, -1: what nobody has written shows
    auto* block = static_cast<std::byte*>(memory);
    taken_ += bytes;
    blocks.emplace(block, bytes);
    set_open(block, bytes, open_count > 0);
    return block;
  }
  void give_back(std::byte* block, size_t bytes) override {
    set_open(block, bytes, true);
    taken_ -= bytes;
    blocks.erase(block);
    std::free(block);
  }
  std::string name() const override { return "cuda:" + std::to_string(index_); }

 private:
  int index_;
  size_t taken_ = 0;
};

// Runs late, as a chip may: a copy that is not waited for has not arrived.
class EmulatedLane final : public CopyLane {
 public:
  void start(std::byte* to, const std::byte* from, size_t bytes) override {
    to_ = to;
    bytes_.assign(from, from + bytes);
  }
  void finish() override {
    const OpenDeviceMemory open;
    std::memcpy(to_, bytes_.data(), bytes_.size());
    bytes_.clear();
  }

 private:
  std::byte* to_ = nullptr;
  std::vector<std::byte> bytes_;
};

class EmulatedBackend final : public DeviceBackend {
 public:
  EmulatedBackend() { register_backend(DeviceKind::cuda, *this); }
  void require(int index) override {
    if (index >= device_count)
      fail<DeviceError>("device", "no cuda:", index, ": got 2 emulated devices, expected a number from 0 to 1");
  }
  std::string describe(int) override { return "emulated grid"; }
  std::unique_ptr<ByteSource> memory(int index) override {
    require(index);
    return std::make_unique<EmulatedMemory>(index);
  }
  DeviceStream stream(int index) override { return reinterpret_cast<DeviceStream>(&streams[index]); }
  void copy(int, void* to, const void* from, size_t bytes, Copy) override {
    const OpenDeviceMemory open;
    std::memmove(to, from, bytes);
  }
  void clear(int, void* to, size_t bytes) override {
    const OpenDeviceMemory open;
    std::memset(to, 0, bytes);
  }
  void synchronize(int) override {}
  std::unique_ptr<CopyLane> copy_lane(int) override { return std::make_unique<EmulatedLane>(); }
} backend;

}  // namespace

OpenDeviceMemory::OpenDeviceMemory() {
  if (open_count++ == 0)
    for (const auto& [block, bytes] : blocks) set_open(block, bytes, true);
}
OpenDeviceMemory::~OpenDeviceMemory() {
  if (--open_count == 0)
    for (const auto& [block, bytes] : blocks) set_open(block, bytes, false);
}

bool is_stream(const void* stream) {
  for (const char& known : streams)
    if (stream == &known) return true;
  return false;
}

void set_memory_limit(size_t bytes) { memory_limit = bytes; }

}  // namespace parabola::emulated
