#include "data/cifar.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "engine/core/error.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {

constexpr int side = 32;
constexpr size_t plane = side * side;
constexpr size_t record = 1 + 3 * plane;
constexpr size_t classes = 10;
constexpr size_t max_meta_bytes = 4096;  // of batches.meta.txt; the real one has 61

// Appends one file's records to pixels (as HWC) and labels.
void append_file(const std::string& path, std::vector<uint8_t>& pixels, std::vector<uint8_t>& labels) {
  const InputFile file(path);
  if (file.size() == 0 || file.size() % record != 0) {
    fail<FormatError>(printable(path, 400), "truncated: got ", file.size(), " bytes, expected a positive multiple of ",
                      record);
  }
  std::vector<uint8_t> bytes(file.size());
  file.read(0, bytes.data(), bytes.size());
  size_t next = pixels.size();
  pixels.resize(next + bytes.size() / record * 3 * plane);
  for (size_t begin = 0; begin < bytes.size(); begin += record) {
    const uint8_t label = bytes[begin];
    if (label >= classes) {
      fail<FormatError>(printable(path, 400), "label out of range at record ", begin / record, ": got ", int{label},
                        ", expected 0 to ", classes - 1);
    }
    labels.push_back(label);
    for (size_t i = begin + 1; i <= begin + plane; ++i) {
      for (size_t channel = 0; channel < 3; ++channel) pixels[next++] = bytes[i + channel * plane];
    }
  }
}

std::vector<std::string> read_class_names(const std::string& folder) {
  const std::string path = folder + "/batches.meta.txt";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  }
  const InputFile file(path);
  std::string text(std::min<size_t>(file.size(), max_meta_bytes), ' ');
  file.read(0, text.data(), text.size());
  std::istringstream lines(text);
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (names.size() != classes) {
    fail<FormatError>(printable(path, 400), "class names: got ", names.size(), ", expected ", classes, ", one a line");
  }
  return names;
}

DatasetPtr read_files(const std::string& folder, const char* name, const std::vector<std::string>& files) {
  std::vector<uint8_t> pixels, labels;
  for (const std::string& file : files) append_file(concat(folder, "/", file), pixels, labels);
  DatasetInfo info{.name = name,
                   .size = static_cast<int64_t>(labels.size()),
                   .height = side,
                   .width = side,
                   .class_names = read_class_names(folder)};
  return memory_dataset(std::move(info), 3, std::move(pixels), std::move(labels), folder);
}

}  // namespace

DatasetPtr read_cifar10_train(const std::string& folder) {
  std::vector<std::string> files;
  for (int number = 1; number <= 5; ++number) files.push_back(concat("data_batch_", number, ".bin"));
  return read_files(folder, "cifar10 train", files);
}

DatasetPtr read_cifar10_test(const std::string& folder) {
  return read_files(folder, "cifar10 test", {"test_batch.bin"});
}

}  // namespace parabola
