// The writer: the exact bytes of a small file, everything back bit for bit, and what it will not write.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/io/io_support.h"
#include "tests/support/test.h"

namespace parabola::safetensors_write_test {
namespace {

namespace fs = std::filesystem;

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// No file may grow beyond `bytes` while this lives: a disk that fills up in the middle of a write.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    sigaction(SIGXFSZ, nullptr, &action_);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    sigaction(SIGXFSZ, &action_, nullptr);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_;
  struct sigaction action_;
};

}  // namespace

TEST_CASE("write_safetensors: the bytes of a small file") {
  const std::string path = scratch_folder() + "/small.safetensors";
  const uint8_t bytes[] = {1, 2, 3};
  const float floats[] = {1, 2};
  const double wide = -2;
  write_safetensors(path,
                    std::vector<TensorData>{{"a", DType::u8, {3}, bytes},
                                            {"z", DType::f32, {1, 2}, floats},
                                            {"b\"", DType::f32, {2, 0}, nullptr},
                                            {"m", DType::f64, {}, &wide}},
                    {{"format", "pt"}, {"eng\n", "Straße"}});
  // Larger elements first, then by name; one JSON without spaces but those that pad it to a multiple of 8.
  std::string json = R"({"__metadata__":{"eng\n":"Straße","format":"pt"},)"
                     R"("m":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
                     R"("b\"":{"dtype":"F32","shape":[2,0],"data_offsets":[8,8]},)"
                     R"("z":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},)"
                     R"("a":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
  while (json.size() % 8) json += ' ';
  CHECK(read_bytes(path) == safetensors_image(json, bytes_of(wide) + bytes_of(floats) + bytes_of(bytes)));
}

TEST_CASE("write_safetensors: metadata alone, and nothing at all") {
  const std::string path = scratch_folder() + "/m.safetensors";
  write_safetensors(path, {}, {});
  CHECK(read_bytes(path) == safetensors_image("{}      "));
  write_safetensors(path, {}, {{"a", "b"}});
  CHECK(Safetensors(path).metadata().at("a") == "b");
}

TEST_CASE("write_safetensors: everything comes back bit for bit, and twice the same file") {
  const std::string folder = scratch_folder(), path = folder + "/a.safetensors", again = folder + "/b.safetensors";
  Random random({.seed = 5, .stream = Stream::test});
  std::vector<std::vector<uint32_t>> buffers;
  std::vector<TensorData> tensors;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::u8}) {
    for (const Shape& shape : {Shape{}, Shape{3, 1, 7}, Shape{0, 4}, Shape{1, 2, 3, 4, 5, 6}}) {
      const auto bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
      std::vector<uint32_t> words(bytes / 4 + 1);
      for (uint32_t& word : words) word = random.word();  // any bits: NaN payloads and subnormals among them
      buffers.push_back(std::move(words));
      tensors.push_back({concat(name_of(dtype), shape), dtype, shape, buffers.back().data()});
    }
  }
  write_safetensors(path, tensors, {{"k", std::string(1000, 'v')}});
  const Safetensors file(path);
  CHECK(file.entries().size() == tensors.size());
  CHECK(file.metadata().at("k") == std::string(1000, 'v'));
  for (const TensorData& tensor : tensors) {
    INFO(tensor.name);
    const TensorEntry* entry = file.find(tensor.name);
    REQUIRE(entry != nullptr);
    CHECK(entry->shape == tensor.shape);
    CHECK(entry->begin % size_of(tensor.dtype) == 0);  // aligned, since the header is padded too
    std::string out(entry->end - entry->begin, '\0');
    file.read(*entry, tensor.dtype, reinterpret_cast<std::byte*>(out.data()), out.size());
    CHECK(out == std::string_view(static_cast<const char*>(tensor.data), out.size()));
  }
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(again, tensors, {{"k", std::string(1000, 'v')}});
  CHECK(read_bytes(again) == read_bytes(path));
  CHECK(files_in(folder) == 2);
}

TEST_CASE("write_safetensors: refuses what no reader would take, and leaves nothing behind") {
  const std::string folder = scratch_folder(), path = folder + "/m.safetensors";
  const float value = 1;
  const auto refused = [&](const std::vector<std::string>& names, const std::map<std::string, std::string>& metadata,
                           const char* why) {
    std::vector<TensorData> tensors;
    for (const std::string& name : names) tensors.push_back({name, DType::f32, {1}, &value});
    CHECK_THROWS_WITH_AS(write_safetensors(path, tensors, metadata), doctest::Contains(why), UsageError);
    CHECK(files_in(folder) == 0);
  };
  refused({"w", "v", "w"}, {}, "two tensors are named 'w'");
  refused({"__metadata__"}, {}, "a tensor cannot be named __metadata__");
  refused({"\xff"}, {}, "text is not UTF-8");
  refused({}, {{"a", "\xc3"}}, "text is not UTF-8");
  refused({std::string(4097, 'n')}, {}, "has 4097 bytes, expected at most 4096");
  refused({}, {{std::string(4097, 'n'), ""}}, "has 4097 bytes, expected at most 4096");
  refused(std::vector<std::string>(max_tensors + 1, "w"), {}, "two tensors are named 'w'");
  refused({}, {{"a", std::string(100'000'001, 'v')}}, "header is too large");
  // Each of these characters takes six bytes in JSON: the text is below the limit, the header is not.
  refused({}, {{"a", std::string(17'000'000, '\x01')}}, "header is too large");
}

TEST_CASE("write_safetensors: a file-size limit in mid-write is an error, and the old file stays") {
  const std::string folder = scratch_folder(), path = folder + "/m.safetensors";
  const std::vector<float> values(100'000, 1.f);
  write_safetensors(path, {}, {{"which", "old"}});
  std::string message;
  {
    const FileSizeLimit limit(65536);
    try {
      write_safetensors(path, std::vector<TensorData>{{"t", DType::f32, {100'000}, values.data()}}, {});
    } catch (const UsageError& error) {
      message = std::string("UsageError ") + error.what();
    } catch (const Error& error) {
      message = error.what();
    }
  }
  CHECK(message == "[" + path + "] cannot write: File too large");
  CHECK(files_in(folder) == 1);
  CHECK(Safetensors(path).metadata().at("which") == "old");
  write_safetensors(path, std::vector<TensorData>{{"t", DType::f32, {100'000}, values.data()}}, {});
  CHECK(Safetensors(path).find("t") != nullptr);
}

}  // namespace parabola::safetensors_write_test
