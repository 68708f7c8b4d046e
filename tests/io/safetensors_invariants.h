// What must hold for whatever bytes the readers accept; the fuzzer and the mutation test look for bytes that break it.
#pragma once
#include <string_view>

#include "engine/core/error.h"
#include "engine/io/sharded_index.h"
#include "tests/io/io_support.h"

namespace parabola {

enum class Verdict { accepted, refused, broken };

// Reads `image` as a file. Accepted means that its tensors cover the data exactly and have as many bytes as their
// shapes say, computed here once more without looking at how the reader does it. Any exception but FormatError passes
// through.
inline Verdict judge_file(std::string_view image) {
  try {
    const SafetensorsHeader header = parse_image("image", image);
    uint64_t covered = 0, data_begin = 8;
    for (size_t i = 8; i-- > 0;) data_begin += static_cast<uint64_t>(static_cast<unsigned char>(image[i])) << 8 * i;
    for (const TensorEntry& entry : header.entries) {
      if (entry.begin != covered || entry.end < entry.begin) return Verdict::broken;
      long double bits = static_cast<long double>(bits_of(entry.dtype));
      for (const int64_t size : entry.shape.sizes()) bits *= static_cast<long double>(size);
      if (bits != static_cast<long double>(entry.end - entry.begin) * 8) return Verdict::broken;
      covered = entry.end;
    }
    return data_begin + covered == image.size() ? Verdict::accepted : Verdict::broken;
  } catch (const FormatError&) {
    return Verdict::refused;
  }
}

// Reads `text` as an index of shards. Accepted means that no shard's name can lead out of a folder.
inline Verdict judge_index(std::string_view text) {
  try {
    for (const auto& [tensor, shard] : parse_index("index", text).shard_of) {
      if (shard.empty() || shard == ".." || shard.find('/') != shard.npos) return Verdict::broken;
    }
    return Verdict::accepted;
  } catch (const FormatError&) {
    return Verdict::refused;
  }
}

}  // namespace parabola
