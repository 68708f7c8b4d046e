// Image files: against Pillow's pixels (tests/golden/make_images.py), and bad ones.
#include "data/decode.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "engine/core/error.h"
#include "engine/io/safetensors.h"
#include "tests/support/test.h"

namespace parabola::decode_test {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes stored(const std::string& name) {
  static const Safetensors file("tests/golden/images.safetensors");
  const TensorEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry, name);
  Bytes bytes(entry->end - entry->begin);
  file.read(*entry, DType::u8, reinterpret_cast<std::byte*>(bytes.data()), bytes.size());
  return bytes;
}

Image decoded(const Bytes& bytes) {
  static const std::string path = scratch_folder() + "/image";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  Image image;
  decode_image(path, image);
  return image;
}

}  // namespace

TEST_CASE("decode: every kind of file becomes 8-bit RGB with Pillow's pixels") {
  for (const std::string name : {"rgb.png", "grey.png", "palette.png", "alpha.png", "rgb.bmp", "palette.bmp", "rgb.jpg",
                                 "progressive.jpg", "fine.jpg", "grey.jpg"}) {
    CAPTURE(name);
    CHECK(is_image_name(name));
    const Image image = decoded(stored("file/" + name));
    const Bytes expected = stored("pixels/" + name);
    CHECK(image.height == 11);
    CHECK(image.width == 14);
    REQUIRE(image.rgb.size() == expected.size());
    // JPEG leaves the rounding of its transforms to the decoder, and how colours of half the size grow: up to 8 levels
    // at the edges of these images.
    const int most = name == "rgb.jpg" || name == "progressive.jpg" ? 8 : name.ends_with("jpg") ? 2 : 0;
    for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(image.rgb[i] - expected[i]) <= most);
  }
}

TEST_CASE("decode: of 16 bits the upper 8 are taken") {
  const Image image = decoded(stored("file/bits16.png"));
  CHECK(image.height == 3);
  CHECK(image.width == 5);
  for (size_t i = 0; i < 15; ++i) CHECK(image.rgb[3 * i] == (i * 1000) >> 8);
}

TEST_CASE("decode: a bad file is refused, and the message names it") {
  const auto refused = [](const Bytes& bytes, const char* about) {
    CAPTURE(about);
    CHECK_THROWS_WITH_AS(decoded(bytes), doctest::Contains(about), FormatError);
  };
  refused({}, "/image] the file is empty");
  refused({'h', 'e', 'l', 'l', 'o'}, "/image] cannot be decoded");
  for (const std::string name : {"rgb.png", "palette.png", "rgb.bmp", "palette.bmp", "rgb.jpg", "progressive.jpg"}) {
    const Bytes whole = stored("file/" + name);
    // Of the last bytes a PNG's checksum (four) and a JPEG's end mark (two) may be missing without harm.
    for (const size_t size : {size_t{1}, size_t{10}, whole.size() / 3, whole.size() - 20}) {
      CAPTURE(name);
      CAPTURE(size);
      CHECK_THROWS_AS(decoded({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}), FormatError);
    }
  }
  Bytes bomb = stored("file/rgb.png");
  bomb[18] = bomb[19] = bomb[22] = bomb[23] = 0xf0;             // of width and height: 61,680 each
  refused(bomb, "/image] cannot be decoded: got 'too large'");  // by stb_image's own limits
  bomb[18] = bomb[22] = 0x30;
  refused(bomb, "/image] too large: got 12528x12528 pixels");
  Bytes bmp = stored("file/rgb.bmp");
  bmp[25] = 0x80, bmp[22] = bmp[23] = bmp[24] = 0;  // its height: -2^31
  refused(bmp, "/image] too large: got 2147483648x14 pixels");
  Image image;
  CHECK_THROWS_WITH_AS(decode_image("no-such.png", image), doctest::Contains("no-such.png"), UsageError);
  CHECK_THROWS_AS(decode_image("tests", image), UsageError);
}

TEST_CASE("decode: a PNG of one pixel that unpacks to far more is refused before it does") {
  const Bytes zeros(8 << 20);
  uLongf packed_size = compressBound(zeros.size());
  Bytes packed(packed_size), file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  REQUIRE(compress(packed.data(), &packed_size, zeros.data(), zeros.size()) == Z_OK);
  packed.resize(packed_size);
  const auto add_chunk = [&](const std::string& type, const Bytes& content) {
    for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<uint8_t>(content.size() >> shift));
    file.insert(file.end(), type.begin(), type.end());
    file.insert(file.end(), content.begin(), content.end());
    file.insert(file.end(), 4, 0);  // the checksum, which nobody looks at
  };
  add_chunk("IHDR", {0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0});
  add_chunk("IDAT", packed);
  add_chunk("IEND", {});
  CHECK_THROWS_WITH_AS(decoded(file), doctest::Contains("/image] cannot be decoded: got 'outofmem'"), FormatError);
}

TEST_CASE("decode: a Huffman table of too many symbols never reaches the decoder") {
  for (const std::string name : {"rgb.jpg", "progressive.jpg"}) {
    const Bytes whole = stored("file/" + name);
    const Bytes begin{0xff, 0xc4};
    int tables = 0;
    for (auto at = whole.begin(); (at = std::search(at, whole.end(), begin.begin(), begin.end())) != whole.end();
         ++at) {
      Bytes damaged = whole;
      const auto counts = damaged.begin() + (at - whole.begin()) + 5;
      std::fill(counts, counts + 2, uint8_t{200});
      CHECK_THROWS_WITH_AS(decoded(damaged), doctest::Contains("Huffman table of over 256 symbols"), FormatError);
      ++tables;
    }
    CHECK(tables >= 2);
  }
}

TEST_CASE("decode: a scan by Huffman tables that nobody has defined does not read what lay in memory before") {
  Bytes damaged = stored("file/rgb.jpg");
  const Bytes begin{0xff, 0xda};
  const auto scan = std::search(damaged.begin(), damaged.end(), begin.begin(), begin.end());
  REQUIRE(scan < damaged.end() - 10);
  for (int component = 0; component < scan[4]; ++component) scan[6 + 2 * component] = 0x33;  // tables 3, of DC and AC
  std::vector<std::string> results;
  for (const int before : {0, 1, 40, 127, 200, 255}) {
    std::vector<std::vector<uint8_t>> blocks;
    for (size_t bytes = 1 << 10; bytes <= 1 << 16; bytes += 1 << 10) blocks.emplace_back(bytes, before);
    blocks.clear();
    try {
      const Image image = decoded(damaged);
      results.emplace_back(image.rgb.begin(), image.rgb.end());
    } catch (const FormatError& error) {
      results.emplace_back(error.what());
    }
    CHECK(results.back() == results.front());
  }
}

TEST_CASE("decode: damaged files are read or refused, nothing else") {
  for (const std::string name : {"rgb.png", "palette.png", "rgb.bmp", "palette.bmp", "rgb.jpg", "progressive.jpg"}) {
    const Bytes whole = stored("file/" + name);
    for (size_t at = 0; at < whole.size(); at += long_tests() ? 1 : 13) {
      Bytes damaged = whole;
      damaged[at] ^= static_cast<uint8_t>(1 + at % 255);
      try {
        decoded(damaged);
      } catch (const FormatError&) {
      }
    }
  }
}

TEST_CASE("decode: names of images") {
  for (const char* name : {"a.JPEG", "b.Jpg", "x/y.png", "c.d.bmp"}) CHECK(is_image_name(name));
  for (const char* name : {"a.gif", "jpg", "a.jpg.txt", "", "a.webp"}) CHECK_FALSE(is_image_name(name));
}

}  // namespace parabola::decode_test
