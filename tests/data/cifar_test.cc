// CIFAR's binary files, on tiny ones made here and on the development data.
#include "data/cifar.h"

#include <array>
#include <filesystem>
#include <fstream>

#include "data/open.h"
#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::cifar_test {
namespace {

constexpr size_t record = 3073;

// A record with byte i of its planes equal to first + 7 i (mod 256), so that neighbours and planes differ.
std::string make_record(char label, unsigned first) {
  std::string bytes(1, label);
  for (unsigned i = 0; i < record - 1; ++i) bytes += static_cast<char>(first + 7 * i + i / 1024);
  return bytes;
}

void write_file(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string tiny_folder() {
  std::string folder = scratch_folder();
  for (int batch = 1; batch <= 5; ++batch) {
    write_file(folder + "/data_batch_" + std::to_string(batch) + ".bin",
               make_record(static_cast<char>(batch), 0) + make_record(0, static_cast<unsigned>(batch)));
  }
  write_file(folder + "/test_batch.bin", make_record(9, 3));
  return folder;
}

}  // namespace

TEST_CASE("cifar: planes become pixels, and the five files follow each other") {
  const DatasetPtr train = read_cifar10_train(tiny_folder());
  CHECK(train->size() == 10);
  CHECK(train->height() == 32);
  CHECK(train->width() == 32);
  CHECK(train->classes() == 10);
  CHECK(train->class_names()[9] == "truck");
  for (int batch = 1; batch <= 5; ++batch) {
    CHECK(train->label(2 * (batch - 1)) == batch);
    CHECK(train->label(2 * (batch - 1) + 1) == 0);
    Image image;
    train->image(2 * (batch - 1) + 1, image);
    REQUIRE(image.rgb.size() == 3 * 1024);
    const std::string bytes = make_record(0, static_cast<unsigned>(batch));
    int wrong = 0;
    for (size_t pixel = 0; pixel < 1024; ++pixel) {
      for (size_t channel = 0; channel < 3; ++channel) {
        wrong += image.rgb[3 * pixel + channel] != static_cast<uint8_t>(bytes[1 + 1024 * channel + pixel]);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("cifar: class names come from batches.meta.txt") {
  const std::string folder = tiny_folder();
  write_file(folder + "/batches.meta.txt", "a\nb\nc\r\nd\ne\nf\ng\nh\ni\nj\n\n");
  const DatasetPtr test = read_cifar10_test(folder);
  CHECK(test->size() == 1);
  CHECK(test->label(0) == 9);
  CHECK(test->class_names()[2] == "c");
  CHECK(test->class_names()[9] == "j");
  write_file(folder + "/batches.meta.txt", "a\nb\n");
  CHECK_THROWS_WITH_AS(read_cifar10_test(folder), doctest::Contains("class names: got 2, expected 10"), FormatError);
}

TEST_CASE("cifar: bad files are told apart") {
  const std::string folder = tiny_folder(), path = folder + "/test_batch.bin";
  write_file(path, make_record(1, 0).substr(0, record - 1));
  CHECK_THROWS_WITH_AS(read_cifar10_test(folder), doctest::Contains("truncated: got 3072 bytes"), FormatError);
  write_file(path, make_record(1, 0) + "x");
  CHECK_THROWS_WITH_AS(read_cifar10_test(folder), doctest::Contains("multiple of 3073"), FormatError);
  write_file(path, "");
  CHECK_THROWS_WITH_AS(read_cifar10_test(folder), doctest::Contains("truncated: got 0 bytes"), FormatError);
  write_file(path, make_record(1, 0) + make_record(10, 0));
  CHECK_THROWS_WITH_AS(read_cifar10_test(folder), doctest::Contains("label out of range at record 1: got 10"),
                       FormatError);
  std::filesystem::remove(folder + "/data_batch_4.bin");
  CHECK_THROWS_WITH_AS(read_cifar10_train(folder), doctest::Contains("data_batch_4.bin"), UsageError);
}

TEST_CASE("cifar: CIFAR-100 has two labels a record, of which the fine one counts") {
  const std::string folder = scratch_folder();
  write_file(folder + "/train.bin", '\x13' + make_record(99, 5) + '\x00' + make_record(0, 11));
  write_file(folder + "/test.bin", '\x01' + make_record(42, 7));
  const DataSplits splits = open_data("cifar100:" + folder);
  CHECK(splits.augment.str() == "crop,flip");
  CHECK(splits.train->size() == 2);
  CHECK(splits.train->label(0) == 99);
  CHECK(splits.train->label(1) == 0);
  CHECK(splits.test->label(0) == 42);
  CHECK(splits.test->classes() == 100);
  CHECK(splits.test->class_names()[42] == "42");
  Image image;
  splits.train->image(1, image);
  const std::string bytes = make_record(0, 11);
  for (size_t pixel : {size_t{0}, size_t{1}, size_t{1023}})
    for (size_t channel = 0; channel < 3; ++channel)
      CHECK(image.rgb[3 * pixel + channel] == static_cast<uint8_t>(bytes[1 + 1024 * channel + pixel]));

  std::string names;
  for (int label = 0; label < 100; ++label) names += "name" + std::to_string(label) + "\n";
  write_file(folder + "/fine_label_names.txt", names);
  CHECK(read_cifar100_test(folder)->class_names()[42] == "name42");
  write_file(folder + "/fine_label_names.txt", "apple\n");
  CHECK_THROWS_WITH_AS(read_cifar100_test(folder), doctest::Contains("got 1, expected 100"), FormatError);
  write_file(folder + "/test.bin", '\x01' + make_record(100, 7));
  CHECK_THROWS_WITH_AS(read_cifar100_test(folder), doctest::Contains("record 0: got 100, expected 0 to 99"),
                       FormatError);
  write_file(folder + "/test.bin", make_record(3, 7));
  CHECK_THROWS_WITH_AS(read_cifar100_test(folder), doctest::Contains("multiple of 3074"), FormatError);
}

TEST_CASE("cifar: the development data has a thousand test images of each class") {
  if (cifar10_folder().empty()) SKIP(missing_data());
  const DatasetPtr test = read_cifar10_test(cifar10_folder());
  CHECK(test->size() == 10000);
  std::array<int, 10> images{};
  for (int64_t i = 0; i < test->size(); ++i) ++images[static_cast<size_t>(test->label(i))];
  for (const int count : images) CHECK(count == 1000);
  CHECK(test->class_names()[0] == "airplane");
}

}  // namespace parabola::cifar_test
