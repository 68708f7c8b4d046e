#include "data/decode.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>

#include "engine/core/error.h"
#include "engine/io/input_file.h"

// stb_image decompresses all that a PNG holds before it looks how much the pixels need: a small file would take
// gigabytes. So no block that it asks for is larger than the pixels or the file explain. New blocks are zeros: a JPEG's
// scan may name a Huffman table that no segment has defined, and stb_image (2.27) follows whatever lies there, out of
// bounds; in zeros it finds the symbol 0.
namespace {
thread_local size_t largest_block = 0;
void* limited_realloc(void* block, size_t bytes) {
  if (bytes > largest_block) return nullptr;
  return block ? std::realloc(block, bytes) : std::calloc(1, bytes);
}
}  // namespace
#define STBI_MALLOC(bytes) limited_realloc(nullptr, bytes)
#define STBI_REALLOC(block, bytes) limited_realloc(block, bytes)
#define STBI_FREE(block) std::free(block)

// The one place where stb_image is compiled. It is a system header (warnings in it are none of ours), gets bytes only,
// and knows three formats.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_MAX_DIMENSIONS 65535
#include <stb/stb_image.h>

namespace parabola {
namespace {

constexpr int64_t max_pixels = 100'000'000;
constexpr uint64_t max_file_bytes = 1 << 29;  // of a file; 100 million pixels without compression have 400 MB

// Whether a JPEG's Huffman tables have at most the 256 symbols that there are: stb_image (2.27) has room for no more,
// and does not look. Segments: 0xff, a marker, a length of two bytes that counts itself; coded data, in which 0xff is
// followed by 0 or a restart marker, stand between them.
bool huffman_tables_fit(const stbi_uc* bytes, size_t size) {
  constexpr stbi_uc define_tables = 0xc4;
  for (size_t at = 2; at + 4 <= size;) {
    const stbi_uc marker = bytes[at + 1];
    const bool segment = bytes[at] == 0xff && marker > 1 && marker < 0xff && (marker < 0xd0 || marker > 0xd9);
    if (!segment) {
      ++at;
      continue;
    }
    const size_t end = std::min(size, at + 2 + (size_t{bytes[at + 2]} << 8 | bytes[at + 3]));
    size_t table = at + 4;  // its number, 16 counts of codes by length, then a symbol for each
    while (marker == define_tables && table < end) {  // the last may run past the segment
      const int symbols = std::accumulate(bytes + table + 1, bytes + std::min(table + 17, size), 0);
      if (symbols > 256) return false;
      table += 17 + static_cast<size_t>(symbols);
    }
    at = std::max(end, at + 2);
  }
  return true;
}

}  // namespace

bool is_image_name(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png" || ending == ".bmp";
}

void decode_image(const std::string& path, Image& out) {
  const InputFile file(path);
  const auto refuse = [&](const auto&... what) { fail<FormatError>(printable_path(path), what...); };
  if (file.size() == 0) refuse("the file is empty: expected a JPEG, PNG or BMP image");
  if (file.size() > max_file_bytes) refuse("too large: got ", file.size(), " bytes, expected at most ", max_file_bytes);
  const auto size = static_cast<int>(file.size());
  const auto bytes = std::make_unique_for_overwrite<stbi_uc[]>(file.size());
  file.read(0, bytes.get(), file.size());

  // stb_image reads zeros past the end, which only a BMP gets away with; its header says how long it is.
  if (size >= 6 && bytes[0] == 'B' && bytes[1] == 'M') {
    const uint32_t told = bytes[2] | bytes[3] << 8 | bytes[4] << 16 | uint32_t{bytes[5]} << 24;
    if (told > file.size()) refuse("cut off: got ", size, " bytes, expected the ", told, " that its header speaks of");
  }

  if (size >= 2 && bytes[0] == 0xff && bytes[1] == 0xd8 && !huffman_tables_fit(bytes.get(), file.size()))
    refuse("damaged: got a Huffman table of over 256 symbols, expected a whole JPEG image");

  largest_block = 1 << 20;  // its own tables
  int width = 0, height = 0, channels = 0;
  const bool known = stbi_info_from_memory(bytes.get(), size, &width, &height, &channels);
  if (!known) width = height = 0;
  // Negative: rows where a BMP begins with its topmost one, columns where it lies.
  const int64_t rows = std::abs(int64_t{height}), columns = std::abs(int64_t{width});
  if (std::max(rows, columns) > STBI_MAX_DIMENSIONS || rows * columns > max_pixels)
    refuse("too large: got ", rows, "x", columns, " pixels, expected at most ", max_pixels, " in all, ",
           STBI_MAX_DIMENSIONS, " a side");
  // 16 bits in 4 channels, doubled as a buffer grows, of an image rounded up to JPEG's blocks; or the file's own bytes.
  largest_block += 16 * static_cast<size_t>((rows + 64) * (columns + 64)) + 2 * file.size();
  // Where the header cannot be read this will fail as well, and knows better why.
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(bytes.get(), size, &width, &height, &channels, 3), stbi_image_free);
  if (!known || !pixels)
    refuse("cannot be decoded: got '", printable(stbi_failure_reason()), "', expected a whole JPEG, PNG or BMP image");
  if (width < 1 || height < 1) refuse("no pixels: got ", height, "x", width, ", expected at least one");
  out.height = height;
  out.width = width;
  out.rgb.assign(pixels.get(), pixels.get() + std::ptrdiff_t{3} * height * width);
}

}  // namespace parabola
