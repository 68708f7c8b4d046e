#include "data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <memory>

#include "engine/core/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {

constexpr uint8_t unsigned_byte = 0x08;  // the format's code of the only element type that image sets use
// No image set of this family comes near (EMNIST, the largest, has 0.55 GB); also keeps every size within an int.
constexpr int64_t max_bytes = std::numeric_limits<int32_t>::max();
// A byte of deflate stands for at most 1,032 (zlib, "Technical Details"), so a small file cannot make us allocate much.
constexpr int64_t max_ratio = 1032;

// A file being read; gzip is unpacked on the way, anything else is read as it is (zlib's transparent mode).
class GzipReader {
 public:
  explicit GzipReader(const std::string& path) : where_(printable(path, 400)) {
    stored_bytes_ = static_cast<int64_t>(InputFile(path).size());  // also finds what cannot be read
    file_.reset(gzopen(path.c_str(), "rb"));
    if (!file_) fail<Error>(where_, "cannot be opened by zlib");
  }

  // Reads up to size bytes; less only at the end of the file.
  size_t read(uint8_t* target, size_t size) {
    constexpr size_t chunk = size_t{1} << 20;  // gzread counts in int
    size_t done = 0;
    while (done < size) {
      const int got = gzread(file_.get(), target + done, static_cast<unsigned>(std::min(chunk, size - done)));
      check_stream();
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  // The most bytes that the file can unpack to.
  int64_t most_bytes() const { return gzdirect(file_.get()) ? stored_bytes_ : stored_bytes_ * max_ratio; }
  const std::string& where() const { return where_; }

 private:
  void check_stream() const {
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    if (code == Z_ERRNO) fail<Error>(where_, "reading failed: got ", printable(text), ", expected the file's bytes");
    if (code == Z_BUF_ERROR) fail<FormatError>(where_, "truncated: the gzip stream ends too soon");
    if (code != Z_OK) fail<FormatError>(where_, "not a sound gzip file: got ", printable(text));
  }

  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };
  std::string where_;
  int64_t stored_bytes_ = 0;
  std::unique_ptr<gzFile_s, Close> file_;
};

std::vector<int64_t> read_header(GzipReader& file, int rank) {
  const std::string& where = file.where();
  std::array<uint8_t, 4> magic{};
  if (file.read(magic.data(), 4) != 4) fail<FormatError>(where, "truncated: no room for IDX's magic number");
  if (magic[0] != 0 || magic[1] != 0) {
    fail<FormatError>(where, "not an IDX file: got first bytes ", int{magic[0]}, " and ", int{magic[1]},
                      ", expected 0 and 0");
  }
  if (magic[2] != unsigned_byte) {
    fail<FormatError>(where, "element type: got code ", int{magic[2]}, ", expected 8 (unsigned bytes)");
  }
  if (magic[3] != rank) fail<FormatError>(where, "number of axes: got ", int{magic[3]}, ", expected ", rank);
  std::vector<int64_t> sizes;
  for (int axis = 0; axis < rank; ++axis) {
    std::array<uint8_t, 4> b{};
    if (file.read(b.data(), 4) != 4) fail<FormatError>(where, "truncated: the header ends early");
    sizes.push_back(int64_t{b[0]} << 24 | int64_t{b[1]} << 16 | int64_t{b[2]} << 8 | int64_t{b[3]});
  }
  return sizes;
}

// The product of the sizes, which the file must be able to hold.
size_t count_elements(const GzipReader& file, const std::vector<int64_t>& sizes) {
  int64_t elements = 1;
  for (const int64_t size : sizes) {
    if (size == 0) fail<FormatError>(file.where(), "an axis is empty: expected sizes of at least 1");
    if (size > max_bytes / elements) {
      fail<FormatError>(file.where(), "too large: the header's sizes ask for more than ", max_bytes, " bytes");
    }
    elements *= size;
  }
  if (elements > file.most_bytes()) {
    fail<FormatError>(file.where(), "truncated: the header asks for ", elements, " bytes, the file holds at most ",
                      file.most_bytes());
  }
  return static_cast<size_t>(elements);
}

// The first spelling of the file's name that exists: with '-' or '.' before idx, plain or gzip.
std::string find_idx(const std::string& folder, const std::string& stem, const char* what, int rank) {
  const std::string ending = concat("idx", rank, "-ubyte"), first = concat(folder, "/", stem, "-", what);
  std::error_code ignored;
  for (const char* separator : {"-", "."}) {
    for (const char* packed : {"", ".gz"}) {
      std::string path = concat(first, separator, ending, packed);
      if (std::filesystem::exists(path, ignored)) return path;
    }
  }
  fail<UsageError>(printable(folder, 400), "no IDX ", what, ": expected ", stem, "-", what, "-", ending,
                   " or the same with .gz");
}

}  // namespace

IdxArray read_idx(const std::string& path, int rank) {
  GzipReader file(path);
  IdxArray array;
  array.sizes = read_header(file, rank);
  array.elements.resize(count_elements(file, array.sizes));
  const size_t got = file.read(array.elements.data(), array.elements.size());
  if (got != array.elements.size()) {
    fail<FormatError>(file.where(), "truncated: got ", got, " elements, expected ", array.elements.size());
  }
  uint8_t extra = 0;
  if (file.read(&extra, 1) != 0) {
    fail<FormatError>(file.where(), "trailing bytes: expected the end after ", array.elements.size(), " elements");
  }
  return array;
}

DatasetPtr read_idx_pair(const std::string& folder, const std::string& stem, std::string name,
                         std::vector<std::string> class_names) {
  const std::string label_path = find_idx(folder, stem, "labels", 1);
  IdxArray images = read_idx(find_idx(folder, stem, "images", 3), 3);
  IdxArray labels = read_idx(label_path, 1);
  DatasetInfo info{.name = std::move(name),
                   .size = images.sizes[0],
                   .height = static_cast<int>(images.sizes[1]),
                   .width = static_cast<int>(images.sizes[2]),
                   .class_names = std::move(class_names)};
  return memory_dataset(std::move(info), 1, std::move(images.elements), std::move(labels.elements), label_path);
}

void write_idx(const std::string& path, std::span<const int64_t> sizes, std::span<const uint8_t> elements) {
  std::vector<uint8_t> header{0, 0, unsigned_byte, static_cast<uint8_t>(sizes.size())};
  size_t count = 1;
  for (const int64_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) header.push_back(static_cast<uint8_t>(size >> shift));
    count *= static_cast<size_t>(size);
  }
  PARABOLA_ASSERT(count == elements.size());
  AtomicFile file(path);
  file.write(header.data(), header.size());
  file.write(elements.data(), elements.size());
  file.commit();
}

void write_idx_pair(const std::string& folder, const std::string& stem, int height, int width,
                    std::span<const uint8_t> pixels, std::span<const uint8_t> labels) {
  const std::array<int64_t, 3> sizes{static_cast<int64_t>(labels.size()), height, width};
  write_idx(concat(folder, "/", stem, "-images-idx3-ubyte"), sizes, pixels);
  write_idx(concat(folder, "/", stem, "-labels-idx1-ubyte"), std::span(sizes).first(1), labels);
}

}  // namespace parabola
