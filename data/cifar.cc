#include "data/cifar.h"

#include <filesystem>

#include "data/class_names.h"
#include "engine/core/error.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {

constexpr int side = 32;
constexpr size_t plane = side * side;

// What the two sets differ in.
struct Format {
  const char* name;
  size_t classes;
  size_t label_bytes;      // before an image's pixels; the last of them is the label
  const char* names_file;  // class names, one a line
};
const Format cifar10{"cifar10", 10, 1, "batches.meta.txt"};
const Format cifar100{"cifar100", 100, 2, "fine_label_names.txt"};

// Appends one file's records to pixels (as HWC) and labels.
void append_file(const Format& format, const std::string& path, std::vector<uint8_t>& pixels,
                 std::vector<uint8_t>& labels) {
  const size_t record = format.label_bytes + 3 * plane;
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
    const size_t first = begin + format.label_bytes;  // pixel, red
    const uint8_t label = bytes[first - 1];
    if (label >= format.classes) {
      fail<FormatError>(printable(path, 400), "label out of range at record ", begin / record, ": got ", int{label},
                        ", expected 0 to ", format.classes - 1);
    }
    labels.push_back(label);
    for (size_t i = first; i < first + plane; ++i) {
      for (size_t channel = 0; channel < 3; ++channel) pixels[next++] = bytes[i + channel * plane];
    }
  }
}

std::vector<std::string> class_names(const Format& format, const std::string& folder) {
  const std::string path = concat(folder, "/", format.names_file);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return read_class_names(path, format.classes);
  if (format.classes == 10)
    return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  return numbered_classes(format.classes);
}

DatasetPtr read_files(const Format& format, const char* split, const std::string& folder,
                      const std::vector<std::string>& files) {
  std::vector<uint8_t> pixels, labels;
  for (const std::string& file : files) append_file(format, concat(folder, "/", file), pixels, labels);
  DatasetInfo info{.name = concat(format.name, " ", split),
                   .size = static_cast<int64_t>(labels.size()),
                   .height = side,
                   .width = side,
                   .class_names = class_names(format, folder)};
  return memory_dataset(std::move(info), 3, std::move(pixels), std::move(labels), folder);
}

}  // namespace

DatasetPtr read_cifar10_train(const std::string& folder) {
  std::vector<std::string> files;
  for (int number = 1; number <= 5; ++number) files.push_back(concat("data_batch_", number, ".bin"));
  return read_files(cifar10, "train", folder, files);
}

DatasetPtr read_cifar10_test(const std::string& folder) {
  return read_files(cifar10, "test", folder, {"test_batch.bin"});
}

DatasetPtr read_cifar100_train(const std::string& folder) {
  return read_files(cifar100, "train", folder, {"train.bin"});
}

DatasetPtr read_cifar100_test(const std::string& folder) { return read_files(cifar100, "test", folder, {"test.bin"}); }

}  // namespace parabola
