#include "engine/core/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace parabola::random_test {

namespace {

using Block = std::array<uint32_t, 4>;

// The key that puts the given words into Philox's counter and key.
Block philox_of(const Block& counter, const std::array<uint32_t, 2>& key) {
  const RandomKey fields{.seed = uint64_t{key[1]} << 32 | key[0],
                         .stream = static_cast<Stream>(counter[3] >> 24),
                         .step = uint64_t{counter[3] & 0xffffff} << 32 | counter[2],
                         .item = counter[1]};
  return philox(fields, counter[0]);
}

}  // namespace

// From kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
TEST_CASE("philox: known answers") {
  CHECK(philox_of({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint32_t ones = 0xffffffff;
  CHECK(philox_of({ones, ones, ones, ones}, {ones, ones}) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox_of({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: every field of the key counts") {
  const RandomKey key{.seed = 1, .stream = Stream::node, .step = 5, .item = 7};
  std::set<Block> blocks;
  const auto add = [&](const RandomKey& k, uint32_t block) { blocks.insert(philox(k, block)); };
  add(key, 0);
  add(key, 1);
  for (int bit : {0, 31, 32, 63}) add({.seed = 1 ^ uint64_t{1} << bit, .stream = key.stream, .step = 5, .item = 7}, 0);
  for (int bit : {0, 31, 32, 55}) add({.seed = 1, .stream = key.stream, .step = 5 ^ uint64_t{1} << bit, .item = 7}, 0);
  for (int bit : {0, 31}) add({.seed = 1, .stream = key.stream, .step = 5, .item = 7 ^ 1U << bit}, 0);
  for (Stream other : {Stream::initialization, Stream::shuffle, Stream::augmentation, Stream::data, Stream::test})
    add({.seed = 1, .stream = other, .step = 5, .item = 7}, 0);
  CHECK(blocks.size() == 17);
  CHECK(philox(key, 3) == philox(key, 3));
}

TEST_CASE("random: reads the blocks of its key one after the other") {
  const RandomKey key{.seed = 3, .stream = Stream::test, .step = 2, .item = 1};
  Random random(key), again(key);
  for (uint32_t block = 0; block < 5; ++block)
    for (uint32_t word : philox(key, block)) {
      CHECK(random.word() == word);
      CHECK(again.word() == word);
    }
}

TEST_CASE("random: unit floats are in [0, 1), the last one below 1") {
  CHECK(unit_float(0) == 0.0F);
  CHECK(unit_float(0xffffffff) == 1.0F - 0x1p-24F);
  CHECK(unit_float(0x80000000) == 0.5F);
}

// Bounds of 5 standard deviations of the statistic: a right generator would break one in 1.7 million seeds, and the
// seed is fixed.
TEST_CASE("random: moments of uniform and normal draws") {
  Random random({.seed = 42, .stream = Stream::test, .step = 0, .item = 0});
  constexpr int n = 200000;
  const double root = std::sqrt(static_cast<double>(n));
  double sum = 0, squares = 0;
  int lowest_tenth = 0;
  for (int i = 0; i < n; ++i) {
    const double u = static_cast<double>(random.uniform());
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    sum += u;
    squares += u * u;
    lowest_tenth += u < 0.1;
  }
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12) / root);
  CHECK(std::abs(squares / n - 1.0 / 3) < 5 * std::sqrt(1.0 / 5 - 1.0 / 9) / root);
  CHECK(std::abs(lowest_tenth / static_cast<double>(n) - 0.1) < 5 * std::sqrt(0.09) / root);

  double first = 0, second = 0, third = 0, fourth = 0, neighbours = 0, previous = 0;
  int beyond_two = 0;
  for (int i = 0; i < n; ++i) {
    const double z = random.normal();
    REQUIRE(std::isfinite(z));
    first += z;
    second += z * z;
    third += z * z * z;
    fourth += z * z * z * z;
    neighbours += z * previous;
    beyond_two += std::abs(z) > 2;
    previous = z;
  }
  CHECK(std::abs(first / n) < 5 / root);
  CHECK(std::abs(second / n - 1) < 5 * std::sqrt(2.0) / root);
  CHECK(std::abs(third / n) < 5 * std::sqrt(15.0) / root);
  CHECK(std::abs(fourth / n - 3) < 5 * std::sqrt(96.0) / root);
  CHECK(std::abs(neighbours / n) < 5 / root);  // the two of a Box-Muller pair are independent
  const double tail = 0.0455002639;            // P(|z| > 2)
  CHECK(std::abs(beyond_two / static_cast<double>(n) - tail) < 5 * std::sqrt(tail * (1 - tail)) / root);
}

TEST_CASE("random: uniform in an interval") {
  Random random({.seed = 5, .stream = Stream::test, .step = 0, .item = 0});
  float lowest = 10, highest = -10;
  for (int i = 0; i < 10000; ++i) {
    const float u = random.uniform(-3, 2);
    lowest = std::min(lowest, u);
    highest = std::max(highest, u);
  }
  CHECK(lowest >= -3.0F);
  CHECK(lowest < -2.99F);
  CHECK(highest <= 2.0F);
  CHECK(highest > 1.99F);
}

TEST_CASE("random: below is uniform over its bound") {
  Random random({.seed = 9, .stream = Stream::test, .step = 0, .item = 0});
  for (uint32_t bound : {1U, 2U, 3U, 7U, 10U, 64U}) {
    constexpr int draws = 60000;
    std::vector<int> counts(bound);
    for (int i = 0; i < draws; ++i) {
      const uint32_t k = random.below(bound);
      REQUIRE(k < bound);
      ++counts[k];
    }
    double chi_squared = 0;
    const double expected = draws / static_cast<double>(bound);
    for (int count : counts) chi_squared += (count - expected) * (count - expected) / expected;
    // Mean bound - 1, variance 2 (bound - 1).
    CHECK(chi_squared <= bound - 1 + 5 * std::sqrt(2.0 * (bound - 1)));
  }
  // A bound over half of the range: a plain remainder would draw the lower third twice as often. 3 * 2^30 leaves 2^30
  // words over, which must be drawn again.
  constexpr uint32_t bound = 3U << 30;
  constexpr int draws = 60000;
  int low = 0;
  for (int i = 0; i < draws; ++i) low += random.below(bound) < bound / 3;
  CHECK(std::abs(low / static_cast<double>(draws) - 1.0 / 3) < 5 * std::sqrt(2.0 / 9 / draws));
}

}  // namespace parabola::random_test
