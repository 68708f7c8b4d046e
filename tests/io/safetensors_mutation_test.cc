// Good files with random damage: they are read or refused, and nothing else. The same numbers in every run.
#include <vector>

#include "engine/core/random.h"
#include "tests/io/safetensors_invariants.h"
#include "tests/support/test.h"

namespace parabola::safetensors_mutation_test {
namespace {

// What a byte is replaced by or text is given: the characters that mean something to the format.
constexpr std::string_view meaningful = "{}[]\",:0123456789-+.eE \n\\utF\0\xff\xef\xbb\xbf";

// One to three changes: a bit flipped, a byte replaced, bytes removed, doubled or put in, the length changed, the end
// cut.
std::string damaged(std::string bytes, Random& random) {
  for (uint32_t changes = 1 + random.below(3); changes > 0 && !bytes.empty(); --changes) {
    const auto at = random.below(static_cast<uint32_t>(bytes.size())), length = 1 + random.below(8);
    const char byte = meaningful[random.below(static_cast<uint32_t>(meaningful.size()))];
    switch (random.below(7)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8)); break;
      case 1: bytes[at] = byte; break;
      case 2: bytes.erase(at, length); break;
      case 3: bytes.insert(at, bytes.substr(at, length)); break;
      case 4: bytes.insert(at, 1, byte); break;
      case 5: bytes[random.below(8) % bytes.size()] = static_cast<char>(random.word()); break;
      case 6: bytes.resize(at); break;
    }
  }
  return bytes;
}

// Damages inside the JSON leave its length wrong, so that nothing behind it would be reached: mend it.
std::string with_mended_length(const std::string& image, size_t original_json, size_t original_size) {
  const size_t json = original_json + image.size() - original_size;
  return image.size() < 8 ? image : length_prefix(json) + image.substr(8);
}

struct Counts {
  int accepted = 0, refused = 0, broken = 0;
  void add(Verdict verdict) {
    (verdict == Verdict::accepted ? accepted : verdict == Verdict::refused ? refused : broken)++;
  }
};

int rounds() { return long_tests() ? 200'000 : 4'000; }

}  // namespace

TEST_CASE("safetensors: damaged files are read or refused, and nothing else") {
  const std::string json =
      header_of({R"("__metadata__":{"format":"pt"})", header_entry("a.weight", "F32", "[2,3]", "[0,24]"),
                 header_entry("b", "BF16", "[]", "[24,26]"), header_entry("e", "I64", "[0]", "[26,26]"),
                 header_entry("f", "F4", "[1,1,1,1,1,2]", "[26,27]")}) +
      "   ";
  const std::string good = safetensors_image(json, std::string(27, 'd'));
  REQUIRE(judge_file(good) == Verdict::accepted);
  Counts counts;
  for (int round = 0; round < rounds(); ++round) {
    Random random({.seed = 1, .stream = Stream::test, .step = static_cast<uint64_t>(round)});
    const std::string image = damaged(good, random);
    counts.add(judge_file(image));
    counts.add(judge_file(with_mended_length(image, json.size(), good.size())));
  }
  CHECK(counts.broken == 0);
  // Both kinds occur, or the damage is too small or too great to say anything.
  CHECK(counts.accepted > rounds() / 100);
  CHECK(counts.refused > rounds() / 2);
}

TEST_CASE("sharded: damaged indices are read or refused, and nothing else") {
  const std::string good =
      R"({"metadata": {"total_size": 12}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})";
  REQUIRE(judge_index(good) == Verdict::accepted);
  Counts counts;
  for (int round = 0; round < rounds(); ++round) {
    Random random({.seed = 2, .stream = Stream::test, .step = static_cast<uint64_t>(round)});
    counts.add(judge_index(damaged(good, random)));
  }
  CHECK(counts.broken == 0);
  CHECK(counts.accepted > rounds() / 100);
  CHECK(counts.refused > rounds() / 2);
}

}  // namespace parabola::safetensors_mutation_test
