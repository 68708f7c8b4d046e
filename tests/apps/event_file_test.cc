// TensorBoard's event files, read by a parser that knows the format alone: framing, checksums, fields; what a resumed
// run leaves of an earlier one's.
#include "apps/common/event_file.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/apps/cli.h"

namespace parabola::event_file_test {
namespace {

using Scalars = std::map<std::pair<std::string, int64_t>, float>;  // (tag, step)

// CRC-32C by long division of the message's bits, in the order of the polynomial's usual notation.
uint32_t plain_crc(const std::string& data) {
  const auto mirrored = [](uint32_t value, int bits) {
    uint32_t out = 0;
    for (int i = 0; i < bits; ++i) out |= (value >> i & 1) << (bits - 1 - i);
    return out;
  };
  uint32_t rest = 0xffffffffU;
  for (const char c : data) {
    rest ^= mirrored(static_cast<uint8_t>(c), 8) << 24;
    for (int i = 0; i < 8; ++i) rest = rest << 1 ^ (rest >> 31 ? 0x1edc6f41U : 0);
  }
  return ~mirrored(rest, 32);
}

uint64_t little_endian(const std::string& bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void check_masked(const std::string& data, const std::string& stored) {
  const uint32_t crc = plain_crc(data), masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
  CHECK(little_endian(stored) == masked);
}

// The fields of a message: number, and its bytes (a varint's as eight).
std::multimap<int, std::string> fields(const std::string& message) {
  std::multimap<int, std::string> out;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(message.at(at++));
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    std::string value;
    if ((key & 7) == 0) {
      const uint64_t number = varint();
      value.assign(reinterpret_cast<const char*>(&number), sizeof number);
    } else {
      const size_t length = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint();
      REQUIRE(length <= message.size() - at);
      value = message.substr(at, length);
      at += length;
    }
    out.emplace(static_cast<int>(key >> 3), value);
  }
  return out;
}

std::string only(const std::multimap<int, std::string>& all, int field) {
  REQUIRE(all.count(field) == 1);
  return all.find(field)->second;
}

// Every scalar of a file; twice the same is a failure.
Scalars read_events(const std::string& path) {
  const std::string data = read_file(path);
  Scalars scalars;
  for (size_t at = 0, record = 0; at < data.size(); ++record) {
    const std::string length = data.substr(at, 8);
    const auto bytes = static_cast<size_t>(little_endian(length));
    REQUIRE(at + 16 + bytes <= data.size());
    const std::string event = data.substr(at + 12, bytes);
    check_masked(length, data.substr(at + 8, 4));
    check_masked(event, data.substr(at + 12 + bytes, 4));
    at += 16 + bytes;
    const auto all = fields(event);
    double time = 0;
    std::memcpy(&time, only(all, 1).data(), sizeof time);
    CHECK(time > 1.6e9);
    const auto step = static_cast<int64_t>(little_endian(only(all, 2)));
    CHECK((record == 0) == (all.count(3) == 1));
    if (record == 0) CHECK(only(all, 3) == "brain.Event:2");
    if (!all.count(5)) continue;
    const auto values = fields(only(all, 5));
    for (const auto& [field, value] : values) {
      const auto scalar = fields(value);
      float number = 0;
      std::memcpy(&number, only(scalar, 2).data(), sizeof number);
      CHECK(scalars.emplace(std::pair{only(scalar, 1), step}, number).second);
    }
  }
  return scalars;
}

std::string event_path(const std::string& folder, const char* step) {
  return folder + "/events.out.tfevents." + step + ".parabola";
}

}  // namespace

TEST_CASE("event file: the checksum is CRC-32C") {
  CHECK(crc32c("123456789") == 0xe3069283U);            // the check value of the CRC catalogue
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aaU);  // RFC 3720, B.4
  CHECK(crc32c("parabola") == plain_crc("parabola"));
}

TEST_CASE("event file: what was written is read, and a resumed run draws nothing twice") {
  const std::string folder = scratch_folder();
  {
    EventFile file(folder, 0);
    for (int64_t step = 1; step <= 300; ++step) file.add(step, {{"loss", 1.0 / static_cast<double>(step)}, {"lr", 2}});
  }
  const std::string first = event_path(folder, "0000000000");
  CHECK(read_events(first).size() == 600);
  CHECK(read_events(first).at({"loss", 200}) == doctest::Approx(0.005));
  {  // a kill in the middle of a record
    std::filesystem::resize_file(first, std::filesystem::file_size(first) - 5);
    EventFile file(folder, 290);
    file.add(291, {{"loss", 7}});
  }
  Scalars kept = read_events(first);
  CHECK(kept.size() == 580);
  CHECK_FALSE(kept.contains({"loss", 291}));
  CHECK(read_events(event_path(folder, "0000000290")) == Scalars{{{"loss", 291}, 7.0F}});
  { EventFile file(folder, 0); }  // anew: nothing of the earlier run stays
  CHECK(files_in(folder) == std::set<std::string>{"events.out.tfevents.0000000000.parabola"});
  CHECK(read_events(first).empty());
}

TEST_CASE("event file: a run of train writes the scalars that its log has") {
  const std::string out = scratch_folder();
  const Json result = result_of({"train", "--model", "mlp", "--data", "synthetic", "--limit", "32", "--batch", "16",
                                 "--epochs", "2", "--threads", "1", "--out", out, "--force"});
  const Scalars scalars = read_events(event_path(out, "0000000000"));
  CHECK(scalars.at({"test/top1", 4}) == doctest::Approx(static_cast<double>(result.at("top1"))));
  CHECK(scalars.contains({"train/top1", 2}));
  CHECK(scalars.at({"images_per_second", 4}) > 0);
  const double mean = (scalars.at({"train/loss", 3}) + scalars.at({"train/loss", 4})) / 2;
  CHECK(mean == doctest::Approx(static_cast<double>(result.at("train_loss"))));
  CHECK(scalars.contains({"learning_rate", 1}));
}

}  // namespace parabola::event_file_test
