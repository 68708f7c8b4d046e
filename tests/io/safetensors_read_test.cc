// Reading tensors: conversions against values worked out by hand, files that change or are no files, and the real ones.
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <vector>

#include "engine/core/error.h"
#include "engine/io/convert.h"
#include "tests/io/io_support.h"
#include "tests/support/test.h"

namespace parabola::safetensors_read_test {
namespace {

namespace fs = std::filesystem;

// A file that holds one tensor 't' of this type with these bytes.
std::string one_tensor_file(std::string_view dtype, size_t elements, std::string_view data) {
  const std::string path = scratch_folder() + "/one.safetensors";
  const std::string shape = concat('[', elements, ']'), offsets = concat("[0,", data.size(), ']');
  write_bytes(path, safetensors_image(header_of({header_entry("t", dtype, shape, offsets)}), data));
  return path;
}

template <class T>
std::vector<T> read_as(const Safetensors& file, std::string_view name, NonFinite values = NonFinite::allow) {
  const TensorEntry& tensor = *file.find(name);
  std::vector<T> out(static_cast<size_t>(tensor.shape.elements()));
  file.read(tensor, dtype_of<T>, reinterpret_cast<std::byte*>(out.data()), out.size() * sizeof(T), values);
  return out;
}

// Writes `values` as file type `dtype` and reads them back as T.
template <class T, class From>
std::vector<T> converted(std::string_view dtype, const std::vector<From>& values) {
  const std::string_view data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(From));
  return read_as<T>(Safetensors(one_tensor_file(dtype, values.size(), data)), "t");
}

template <class T>
uint32_t bits(T value) {
  return std::bit_cast<uint32_t>(value);
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr double infinity64 = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("safetensors: float16 by hand") {
  const std::vector<float> read = converted<float, uint16_t>(
      "F16", {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3555, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00});
  CHECK(read == std::vector<float>{0.f, -0.f, 0x1p-24f, -0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f, 0.333251953125f, 1.f,
                                   -2.f, 65504.f, infinity, -infinity});
  CHECK(std::signbit(read[1]));
  // NaN keeps its sign and payload, quiet or signalling.
  CHECK(bits(float_from_f16(0x7e00)) == 0x7fc00000u);
  CHECK(bits(float_from_f16(0xfe01)) == 0xffc02000u);
  CHECK(bits(float_from_f16(0x7c01)) == 0x7f802000u);
}

TEST_CASE("safetensors: all 65536 float16 values against the definition") {
  int wrong = 0;
  for (uint32_t h = 0; h < 65536; ++h) {
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double sign = h >> 15 ? -1 : 1;
    const double value = exponent == 0   ? std::ldexp(fraction, -24)
                         : exponent < 31 ? std::ldexp(1024 + fraction, exponent - 25)
                         : fraction == 0 ? infinity64
                                         : std::nan("");
    const float read = float_from_f16(static_cast<uint16_t>(h));
    const bool same = std::isnan(value) ? std::isnan(read) : read == sign * value && std::signbit(read) == (sign < 0);
    if (!same) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("safetensors: bfloat16, float32 and float64") {
  const std::vector<float> brain =
      converted<float, uint16_t>("BF16", {0x3f80, 0xc049, 0x0001, 0x7f7f, 0x7f80, 0xff80, 0x8000, 0x7fc1});
  CHECK(bits(brain[0]) == bits(1.f));
  CHECK(brain[1] == -3.140625f);
  CHECK(brain[2] == 0x1p-133f);
  CHECK(brain[3] == 0x1.fep127f);
  CHECK(brain[4] == infinity);
  CHECK(brain[5] == -infinity);
  CHECK(bits(brain[6]) == 0x80000000u);
  CHECK(bits(brain[7]) == 0x7fc10000u);

  const std::vector<uint32_t> words = {0x7fa00001u, 0x80000000u, 0x00000001u, 0x3f800000u};  // a signalling NaN first
  const std::vector<float> same = converted<float>("F32", words);
  for (size_t i = 0; i < words.size(); ++i) CHECK(std::memcmp(&same[i], &words[i], 4) == 0);
  CHECK(converted<double>("F32", std::vector<float>{0.1f, -0x1p-149f}) == std::vector<double>{0.1f, -0x1p-149});
  CHECK(converted<double>("F64", std::vector<double>{0.1}) == std::vector<double>{0.1});
  CHECK(converted<double, uint16_t>("F16", {0x0001}) == std::vector<double>{0x1p-24});
  // Nearest, ties to even; beyond float32 an infinity; half its smallest subnormal is a tie and becomes 0.
  CHECK(converted<float>("F64", std::vector<double>{0.1, 1 + 0x1p-24, 1 + 0x3p-24, -1e300, 0x1p-150}) ==
        std::vector<float>{0.1f, 1.f, 1 + 0x1p-22f, -infinity, 0.f});
}

TEST_CASE("safetensors: integers and BOOL become floating") {
  CHECK(converted<float>("BOOL", std::vector<uint8_t>{0, 1, 2}) == std::vector<float>{0, 1, 1});
  CHECK(converted<float>("U8", std::vector<uint8_t>{0, 255}) == std::vector<float>{0, 255});
  CHECK(converted<float>("I8", std::vector<int8_t>{-128, 127}) == std::vector<float>{-128, 127});
  CHECK(converted<float>("U16", std::vector<uint16_t>{65535}) == std::vector<float>{65535});
  CHECK(converted<float>("I16", std::vector<int16_t>{-32768}) == std::vector<float>{-32768});
  CHECK(converted<float>("U32", std::vector<uint32_t>{4294967295u, 16777217}) == std::vector<float>{0x1p32f, 0x1p24f});
  CHECK(converted<double>("U32", std::vector<uint32_t>{4294967295u}) == std::vector<double>{4294967295.0});
  CHECK(converted<double>("I32", std::vector<int32_t>{INT32_MIN}) == std::vector<double>{-0x1p31});
  CHECK(converted<double>("U64", std::vector<uint64_t>{UINT64_MAX}) == std::vector<double>{0x1p64});
  CHECK(converted<double>("I64", std::vector<int64_t>{INT64_MIN, 3}) == std::vector<double>{-0x1p63, 3});
}

TEST_CASE("safetensors: what is an integer becomes i32, the rest is refused") {
  const std::vector<int32_t> ends = {INT32_MIN, INT32_MAX};
  CHECK(converted<int32_t>("I32", ends) == ends);
  CHECK(converted<int32_t>("I64", std::vector<int64_t>{INT32_MIN, INT32_MAX}) == ends);
  CHECK(converted<int32_t>("F64", std::vector<double>{-0x1p31, 0x1p31 - 1}) == ends);
  CHECK(converted<int32_t>("F32", std::vector<float>{-0.f, -7.f}) == std::vector<int32_t>{0, -7});
  CHECK(converted<int32_t>("BOOL", std::vector<uint8_t>{7}) == std::vector<int32_t>{1});
  const auto refused = [](std::string_view dtype, const auto& values) {
    CHECK_THROWS_WITH_AS(converted<int32_t>(dtype, values), doctest::Contains("is not an integer that fits i32"),
                         FormatError);
  };
  refused("I64", std::vector<int64_t>{INT32_MAX + int64_t{1}});
  refused("I64", std::vector<int64_t>{INT32_MIN - int64_t{1}});
  refused("U64", std::vector<uint64_t>{UINT64_MAX});
  refused("U32", std::vector<uint32_t>{0x80000000u});
  refused("F32", std::vector<float>{1.5f});
  refused("F32", std::vector<float>{0x1p31f});
  refused("F32", std::vector<float>{std::nanf("")});
  refused("F64", std::vector<double>{infinity64});
  refused("F16", std::vector<uint16_t>{0x3800});  // 0.5
}

TEST_CASE("safetensors: types that are valid but not supported here") {
  const Safetensors file(one_tensor_file("C64", 1, "12345678"));
  CHECK_THROWS_WITH_AS(read_as<float>(file, "t"), doctest::Contains("tensor 't': C64 is valid but not supported here"),
                       FormatError);
  const Safetensors sub_byte(one_tensor_file("F4", 2, "x"));
  CHECK_THROWS_WITH_AS(read_as<float>(sub_byte, "t"), doctest::Contains("F4 is valid but not supported here"),
                       FormatError);
  CHECK(converted<uint8_t>("U8", std::vector<uint8_t>{0, 200}) == std::vector<uint8_t>{0, 200});
  CHECK_THROWS_WITH_AS(converted<uint8_t>("I8", std::vector<int8_t>{1}), doctest::Contains("not supported here as u8"),
                       FormatError);
  // The half types are copied from their like, bit for bit, and from nothing else.
  const Safetensors half(one_tensor_file("F16", 2, std::string_view("\x01\x7c\x00\x3c", 4)));
  std::string out(4, '\0');
  half.read(*half.find("t"), DType::f16, reinterpret_cast<std::byte*>(out.data()), 4);
  CHECK(out == std::string("\x01\x7c\x00\x3c", 4));
  CHECK_THROWS_AS(half.read(*half.find("t"), DType::bf16, reinterpret_cast<std::byte*>(out.data()), 4), FormatError);
}

TEST_CASE("safetensors: every type of the format is either converted or refused for every target") {
  for (int from = 0; from <= static_cast<int>(FileDType::f6_e3m2); ++from) {
    const auto dtype = static_cast<FileDType>(from);
    INFO(name_of(dtype));
    CHECK(is_convertible(dtype, DType::f32) == (dtype <= FileDType::f64));
    if (!is_convertible(dtype, DType::f64)) continue;
    const std::byte in[16] = {};
    double out[2] = {7, 7};
    CHECK(convert(dtype, in, DType::f64, reinterpret_cast<std::byte*>(out), 2) == 2);
    CHECK(out[0] == 0);
    CHECK(out[1] == 0);
  }
}

TEST_CASE("safetensors: tensors longer than the pieces they are read in") {
  std::vector<int64_t> values(100'003);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int64_t>(i);
  const std::vector<double> read = converted<double>("I64", values);
  size_t wrong = 0;
  for (size_t i = 0; i < values.size(); ++i) wrong += read[i] != static_cast<double>(i);
  CHECK(wrong == 0);
  values[70'000] = int64_t{1} << 40;
  CHECK_THROWS_WITH_AS(converted<int32_t>("I64", values), doctest::Contains("element 70000 of type I64"), FormatError);
}

TEST_CASE("safetensors: rule 20, NaN and infinity are legal, and refused on request") {
  for (const float bad : {std::nanf(""), infinity, -infinity}) {
    std::vector<float> values(40'000, 1.f);
    const std::string_view data(reinterpret_cast<const char*>(values.data()), values.size() * 4);
    CHECK_NOTHROW(read_as<float>(Safetensors(one_tensor_file("F32", values.size(), data)), "t", NonFinite::refuse));
    values[39'000] = bad;
    const Safetensors file(one_tensor_file("F32", values.size(), data));
    CHECK_NOTHROW(read_as<float>(file, "t"));
    CHECK_THROWS_WITH_AS(read_as<double>(file, "t", NonFinite::refuse),
                         doctest::Contains("element 39000 is NaN or inf"), FormatError);
  }
}

TEST_CASE("safetensors: entries, find, size, and a buffer of the wrong size") {
  const std::string path = one_tensor_file("U8", 3, "abc");
  const Safetensors file(path);
  CHECK(file.path() == path);
  CHECK(file.bytes() == fs::file_size(path));
  CHECK(file.entries().size() == 1);
  CHECK(file.find("t") == &file.entries()[0]);
  CHECK(file.find("u") == nullptr);
  CHECK(file.warnings().empty());
  std::byte out[12];
  CHECK_THROWS_WITH_AS(file.read(*file.find("t"), DType::f32, out, 3), doctest::Contains("3 bytes, expected 12"),
                       UsageError);
}

TEST_CASE("safetensors: what is no file is the user's mistake") {
  const std::string folder = scratch_folder(), fifo = folder + "/fifo", locked = folder + "/locked";
  CHECK_THROWS_WITH_AS(Safetensors(folder + "/none"), doctest::Contains("/none] cannot open for reading: No such file"),
                       UsageError);
  CHECK_THROWS_WITH_AS(Safetensors{folder}, doctest::Contains("is a folder, expected a file"), UsageError);
  CHECK_THROWS_AS(Safetensors(""), UsageError);
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(Safetensors{fifo}, doctest::Contains("is not a regular file"), UsageError);
  write_bytes(locked, safetensors_image("{}"));
  CHECK_NOTHROW(Safetensors{locked});
  CHECK_THROWS_WITH_AS(Safetensors(locked + "/below"), doctest::Contains("Not a directory"), UsageError);
}

TEST_CASE("safetensors: a file that may not be read") {
  if (geteuid() == 0) SKIP("root may read every file");
  const std::string path = one_tensor_file("U8", 1, "a");
  fs::permissions(path, fs::perms::none);
  CHECK_THROWS_WITH_AS(Safetensors{path}, doctest::Contains("Permission denied"), UsageError);
}

TEST_CASE("safetensors: rule 23, the file changes after it was checked") {
  const std::string data(1000, 'd'), path = one_tensor_file("U8", data.size(), data);
  const Safetensors file(path);
  const auto refused = [&](const char* why) {
    try {
      read_as<float>(file, "t");
      FAIL_CHECK("the changed file was read");
    } catch (const FormatError&) {
      FAIL_CHECK("the file was well-formed when it was opened");
    } catch (const UsageError&) {
      FAIL_CHECK("the user's choice was right");
    } catch (const Error& error) {
      CHECK(std::string_view(error.what()).find(why) != std::string_view::npos);
    }
  };
  SUBCASE("cut short") {
    fs::resize_file(path, fs::file_size(path) - 1);
    refused("file became shorter while it was read");
  }
  SUBCASE("written to") {
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
    refused("file was changed while it was in use");
  }
  SUBCASE("replaced under its name: the file that was checked is the one that is read") {
    fs::rename(one_tensor_file("U8", 1, "x"), path);
    CHECK(read_as<float>(file, "t") == std::vector<float>(1000, 'd'));
  }
  SUBCASE("removed") {
    fs::remove(path);
    CHECK(read_as<float>(file, "t") == std::vector<float>(1000, 'd'));
  }
}

TEST_CASE("safetensors: the development data's files, in four forms of one network") {
  if (data_folder().empty()) SKIP(missing_data());
  const std::string weights = data_folder() + "/weights/";
  const Safetensors single(weights + "resnet20-cifar10.safetensors"), half(weights + "resnet20-fp16.safetensors"),
      brain(weights + "resnet20-bf16.safetensors"), sharded(weights + "resnet20-sharded/model.safetensors.index.json");
  CHECK(single.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(single.find("conv1.weight")->shape == Shape{16, 3, 3, 3});
  CHECK(sharded.warnings().empty());
  CHECK(sharded.entries().size() == single.entries().size());
  int64_t parameters = 0, wrong = 0;
  for (const TensorEntry& tensor : single.entries()) {
    if (tensor.name.find("running") == std::string::npos) parameters += tensor.shape.elements();
    const auto exact = read_as<float>(single, tensor.name, NonFinite::refuse);
    CHECK(read_as<float>(sharded, tensor.name) == exact);
    const auto from_half = read_as<float>(half, tensor.name), from_brain = read_as<float>(brain, tensor.name);
    for (size_t i = 0; i < exact.size(); ++i) {
      // Half a unit in the last of 11 and 8 significant bits; float16 below 2^-14 has absolute steps of 2^-24.
      wrong += std::abs(from_half[i] - exact[i]) > std::max(std::abs(exact[i]) * 0x1p-11f, 0x1p-25f);
      wrong += std::abs(from_brain[i] - exact[i]) > std::abs(exact[i]) * 0x1p-8f;
    }
  }
  CHECK(wrong == 0);
  CHECK(parameters == 269'722);  // the model's published count
  CHECK(Safetensors(weights + "squeezenet1_0-imagenet.safetensors").find("conv1.weight")->shape == Shape{96, 3, 7, 7});
}

}  // namespace parabola::safetensors_read_test
