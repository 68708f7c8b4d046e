// IDX files: what is written is read, and every way a file can be wrong is told.
#include "data/idx.h"

#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::idx_test {
namespace {
namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

const std::vector<std::string> ten_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

std::string write_file(const std::string& name, const Bytes& bytes) {
  std::string path = scratch_folder() + "/" + name;
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  return path;
}

Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Bytes gzip(const Bytes& bytes) {
  const std::string path = scratch_folder() + "/packed";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return read_file(path);
}

// Two images of 2x3 pixels.
const Bytes good = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 250, 251, 252, 253, 254, 255};

Bytes changed(size_t position, uint8_t value) {
  Bytes bytes = good;
  bytes[position] = value;
  return bytes;
}
Bytes cut(Bytes bytes, size_t left) {
  bytes.resize(left);
  return bytes;
}

// The message of the E that reading throws; empty where it throws nothing or something else.
template <class E>
std::string message_of(const std::string& path, int rank = 3) {
  try {
    read_idx(path, rank);
  } catch (const E& error) {
    return error.what();
  } catch (...) {
  }
  return "";
}
bool says(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("idx: a plain and a gzip file hold the same") {
  for (const Bytes& bytes : {good, gzip(good)}) {
    const IdxArray array = read_idx(write_file("images", bytes), 3);
    CHECK(array.sizes == std::vector<int64_t>{2, 2, 3});
    CHECK(array.elements == Bytes(good.begin() + 16, good.end()));
  }
}

TEST_CASE("idx: bad files are told apart") {
  CHECK(says(message_of<FormatError>(write_file("f", changed(0, 1))), "not an IDX file: got first bytes 1 and 0"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(1, 7))), "not an IDX file"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(2, 13))), "element type: got code 13, expected 8"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(3, 1))), "number of axes: got 1, expected 3"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(11, 0))), "an axis is empty"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(7, 3))), "truncated: got 12 elements, expected 18"));
  CHECK(says(message_of<FormatError>(write_file("f", changed(7, 1))), "trailing bytes: expected the end after 6"));
  CHECK(says(message_of<FormatError>(write_file("f", {})), "truncated"));
  CHECK(says(message_of<FormatError>(write_file("f", cut(good, 3))), "magic number"));
  CHECK(says(message_of<FormatError>(write_file("f", cut(good, 13))), "truncated: the header ends early"));
  CHECK(says(message_of<FormatError>(write_file("f", cut(good, good.size() - 1))), "truncated: got 11 elements"));
}

TEST_CASE("idx: a header that asks for too much is refused before memory is taken") {
  Bytes huge = good;
  for (size_t i = 4; i < 16; ++i) huge[i] = 255;  // 2^96 bytes
  CHECK(says(message_of<FormatError>(write_file("f", huge)), "too large"));
  huge[4] = huge[8] = huge[12] = 0;  // 2^72 bytes
  CHECK(says(message_of<FormatError>(write_file("f", huge)), "too large"));
  const Bytes gigabyte = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 128, 0, 0, 0, 128, 0, 1};
  CHECK(says(message_of<FormatError>(write_file("f", gigabyte)), "truncated: the header asks for 1073741824 bytes"));
  CHECK(says(message_of<FormatError>(write_file("f", gzip(gigabyte))), "truncated: the header asks for 1073741824"));
}

TEST_CASE("idx: bad gzip streams are told apart") {
  const Bytes packed = gzip(good);
  for (const size_t left : {size_t{12}, packed.size() / 2, packed.size() - 8, packed.size() - 1}) {
    CAPTURE(left);
    CHECK(says(message_of<FormatError>(write_file("f.gz", cut(packed, left))), "truncated"));
  }
  Bytes damaged = packed;
  damaged[damaged.size() - 6] ^= 1;  // in the checksum
  CHECK(says(message_of<FormatError>(write_file("f.gz", damaged)), "not a sound gzip file"));
  Bytes longer = good;
  longer.push_back(0);
  CHECK(says(message_of<FormatError>(write_file("f.gz", gzip(longer))), "trailing bytes"));
}

TEST_CASE("idx: what is no file is the user's error") {
  CHECK(says(message_of<UsageError>(scratch_folder() + "/nothing"), "/nothing"));
  CHECK(says(message_of<UsageError>(scratch_folder()), "is a folder"));
  CHECK_THROWS_AS(read_idx_pair(scratch_folder(), "train", "test", ten_names), UsageError);
}

TEST_CASE("idx: a pair of files is a data set of grey images as RGB") {
  const std::string folder = scratch_folder();
  const Bytes pixels(good.begin() + 16, good.end());
  write_idx_pair(folder, "train", 2, 3, pixels, Bytes{9, 0});
  CHECK(read_file(folder + "/train-images-idx3-ubyte") == good);
  CHECK(read_file(folder + "/train-labels-idx1-ubyte") == Bytes{0, 0, 8, 1, 0, 0, 0, 2, 9, 0});

  const DatasetPtr data = read_idx_pair(folder, "train", "pair", ten_names);
  CHECK(data->name() == "pair");
  CHECK(data->size() == 2);
  CHECK(data->height() == 2);
  CHECK(data->width() == 3);
  CHECK(data->classes() == 10);
  CHECK(data->label(0) == 9);
  CHECK(data->label(1) == 0);
  Image image;
  data->image(1, image);
  CHECK(image.height == 2);
  CHECK(image.width == 3);
  CHECK(image.rgb == Bytes{250, 250, 250, 251, 251, 251, 252, 252, 252, 253, 253, 253, 254, 254, 254, 255, 255, 255});
}

TEST_CASE("idx: every usual spelling of the files' names is found") {
  for (const char* separator : {"-", "."}) {
    for (const bool packed : {false, true}) {
      const fs::path folder = scratch_folder();
      write_idx_pair(folder, "t10k", 2, 3, Bytes(good.begin() + 16, good.end()), Bytes{1, 2});
      for (const auto& [from, to] :
           {std::pair{"t10k-images-idx3-ubyte", "t10k-images"}, std::pair{"t10k-labels-idx1-ubyte", "t10k-labels"}}) {
        const Bytes bytes = read_file(folder / from);
        fs::remove(folder / from);
        const std::string ending = std::string(from).substr(12) + (packed ? ".gz" : "");
        fs::rename(write_file("f", packed ? gzip(bytes) : bytes), folder / (std::string(to) + separator + ending));
      }
      CHECK(read_idx_pair(folder, "t10k", "test", ten_names)->label(1) == 2);
    }
  }
}

TEST_CASE("idx: labels that do not fit the images are refused") {
  const Bytes pixels(good.begin() + 16, good.end());
  const auto with_labels = [&](const Bytes& labels) {
    const std::string folder = scratch_folder();
    write_idx(folder + "/train-images-idx3-ubyte", std::vector<int64_t>{2, 2, 3}, pixels);
    write_idx(folder + "/train-labels-idx1-ubyte", std::vector<int64_t>{std::ssize(labels)}, labels);
    return read_idx_pair(folder, "train", "test", ten_names);
  };
  CHECK(with_labels({1, 9})->size() == 2);
  CHECK_THROWS_WITH_AS(with_labels({1, 10}),
                       doctest::Contains("label out of range at image 1: got 10, expected 0 to 9"), FormatError);
  CHECK_THROWS_WITH_AS(with_labels({1}), doctest::Contains("images and labels disagree: got 1 labels, expected 2"),
                       FormatError);
  CHECK_THROWS_WITH_AS(with_labels({1, 2, 3}), doctest::Contains("got 3 labels, expected 2"), FormatError);
}

TEST_CASE("idx: writing where no file can be leaves nothing") {
  const std::string file = write_file("file", {1});
  CHECK_THROWS_AS(write_idx(file + "/below", std::vector<int64_t>{1}, Bytes{1}), UsageError);
  const std::string folder = scratch_folder();
  CHECK_THROWS_AS(write_idx(folder + "/no/such", std::vector<int64_t>{1}, Bytes{1}), UsageError);
  CHECK(fs::is_empty(folder));
}

}  // namespace parabola::idx_test
