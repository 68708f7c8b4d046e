// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011). A draw is a pure function of (seed, stream, step, item, index): no state, so a replay, another thread
// count, or a resumed run sees the same numbers.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace parabola {

// What the numbers are for; separate streams never share a counter.
enum class Stream : uint8_t { initialization = 1, shuffle = 2, augmentation = 3, node = 4, data = 5, test = 6 };

// Names one sequence of draws. item is the tape node or the sample.
struct RandomKey {
  uint64_t seed = 0;
  Stream stream = Stream::node;
  uint64_t step = 0;  // training step or epoch, below 2^56
  uint32_t item = 0;
};

// Four independent 32-bit words: block `block` of the key's sequence. constexpr, so that CUDA kernels may call it.
constexpr std::array<uint32_t, 4> philox(const RandomKey& key, uint32_t block) {
  uint32_t c0 = block, c1 = key.item, c2 = static_cast<uint32_t>(key.step),
           c3 = static_cast<uint32_t>(key.step >> 32) & 0xffffffu;
  c3 |= static_cast<uint32_t>(key.stream) << 24;
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

// Uniform in [0, 1) with 24 bits, exactly representable in float.
constexpr float unit_float(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// A sequential reader of one key's sequence, for code that draws a few numbers (augmentation, initialisation).
class Random {
 public:
  explicit Random(const RandomKey& key) : key_(key) {}
  uint32_t word() {
    if (used_ == 4) words_ = philox(key_, block_++), used_ = 0;
    return words_[static_cast<size_t>(used_++)];
  }
  float uniform() { return unit_float(word()); }
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  // Uniform integer in [0, bound), unbiased (Lemire's multiply with rejection).
  uint32_t below(uint32_t bound) {
    for (;;) {
      const uint64_t product = uint64_t{word()} * bound;
      if (static_cast<uint32_t>(product) >= (0u - bound) % bound) return static_cast<uint32_t>(product >> 32);
    }
  }
  // Standard normal by Box-Muller (two words a pair).
  double normal() {
    if (has_spare_) return has_spare_ = false, spare_;
    const double u = (word() + 1.0) * 0x1p-32, angle = 6.283185307179586 * (word() * 0x1p-32);
    const double radius = std::sqrt(-2.0 * std::log(u));
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  RandomKey key_;
  uint32_t block_ = 0;
  std::array<uint32_t, 4> words_{};
  int used_ = 4;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace parabola
