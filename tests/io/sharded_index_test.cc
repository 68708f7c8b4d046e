// Models split over several files: what the index may say, and what its shards must hold.
#include "engine/io/sharded_index.h"

#include <filesystem>
#include <vector>

#include "engine/core/error.h"
#include "tests/io/io_support.h"
#include "tests/support/test.h"

namespace parabola::sharded_index_test {
namespace {

namespace fs = std::filesystem;

// A shard that holds scalars of type U8 with these names; the value of each is its place.
std::string shard_image(const std::vector<std::string>& names, const std::string& metadata = R"("__metadata__":{})") {
  std::vector<std::string> entries = {metadata};
  std::string data;
  for (const std::string& name : names) {
    entries.push_back(header_entry(name, "U8", "[]", concat('[', data.size(), ',', data.size() + 1, ']')));
    data += static_cast<char>(data.size());
  }
  return safetensors_image(header_of(entries), data);
}

// A folder with shards a (tensors x, y) and b (tensor z), and an index with this text.
struct Model {
  std::string folder = scratch_folder(), index = folder + "/model.safetensors.index.json";
  explicit Model(std::string_view json) {
    write_bytes(folder + "/a.safetensors", shard_image({"x", "y"}));
    write_bytes(folder + "/b.safetensors", shard_image({"z"}));
    write_bytes(index, json);
  }
  void refused(const char* why) const {
    CHECK_THROWS_WITH_AS(Safetensors{index}, doctest::Contains(why), FormatError);
    CHECK_THROWS_WITH_AS(Safetensors{index}, doctest::Contains(("[" + folder).c_str()), FormatError);
  }
};

// An index whose weight_map is this.
std::string weight_map(std::string_view map) { return std::string(R"({"weight_map":)").append(map).append("}"); }

const std::string good_map = R"({"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"})";

}  // namespace

TEST_CASE("sharded: tensors come from their shards") {
  const Model model(R"({"metadata":{"total_size":3,"by":["a",{"tool":1.5}]},"weight_map":)" + good_map + "}");
  const Safetensors file(model.index);
  CHECK(file.warnings().empty());
  CHECK(file.entries().size() == 3);
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(model.folder)) bytes += entry.file_size();
  CHECK(file.bytes() == bytes);
  float value = -1;
  for (const auto& [name, expected] : {std::pair{"x", 0.f}, {"y", 1.f}, {"z", 0.f}}) {
    REQUIRE(file.find(name) != nullptr);
    file.read(*file.find(name), DType::f32, reinterpret_cast<std::byte*>(&value), sizeof value);
    CHECK(value == expected);
  }
  CHECK(file.find("z")->file != file.find("x")->file);
}

TEST_CASE("sharded: the same from a relative path, and a shard that is a link within the folder") {
  const Model model(weight_map(good_map));
  fs::rename(model.folder + "/b.safetensors", model.folder + "/c.safetensors");
  fs::create_symlink("c.safetensors", model.folder + "/b.safetensors");
  CHECK(Safetensors(fs::relative(model.index).string()).entries().size() == 3);
}

TEST_CASE("sharded: rule 25, a shard is the bare name of a file beside the index") {
  const auto refused = [](const std::string& name, const char* why) {
    INFO(name);
    Model(weight_map(concat(R"({"x":")", name, R"("})"))).refused(why);
  };
  refused("/etc/hostname", "shard name '/etc/hostname' of tensor 'x' is a path, expected the bare name");
  refused("../a.safetensors", "shard name '../a.safetensors' of tensor 'x' is a path");
  refused("./a.safetensors", "is a path");
  refused("below/a.safetensors", "is a path");
  refused("..\\\\a.safetensors", "is a path");
  refused("..", "is a path");
  refused(".", "is a path");
  refused("", "is a path");
  refused("a.safetensors\\u0000.txt", "is a path");
  refused("none.safetensors", "shard 'none.safetensors' cannot be found: No such file");
  refused("new\\nline", "shard 'new\\x0aline' cannot be found");
}

TEST_CASE("sharded: rule 25, a link out of the folder") {
  const Model model(weight_map(good_map));
  const std::string elsewhere = scratch_folder() + "/b.safetensors", shard = model.folder + "/b.safetensors";
  fs::rename(shard, elsewhere);
  SUBCASE("absolute") { fs::create_symlink(elsewhere, shard); }
  SUBCASE("relative") { fs::create_symlink(fs::relative(elsewhere, model.folder), shard); }
  SUBCASE("over a link in the folder") {
    fs::create_symlink(elsewhere, model.folder + "/c");
    fs::create_symlink("c", shard);
  }
  model.refused("shard 'b.safetensors' is a symbolic link out of the index's folder");
}

TEST_CASE("sharded: rule 25, a shard that is a folder or leads nowhere") {
  const Model model(weight_map(good_map));
  fs::remove(model.folder + "/b.safetensors");
  SUBCASE("folder") {
    fs::create_directory(model.folder + "/b.safetensors");
    CHECK_THROWS_WITH_AS(Safetensors{model.index}, doctest::Contains("is a folder"), UsageError);
  }
  SUBCASE("dangling link") {
    fs::create_symlink("none", model.folder + "/b.safetensors");
    model.refused("shard 'b.safetensors' cannot be found");
  }
  SUBCASE("link to itself") {
    fs::create_symlink("b.safetensors", model.folder + "/b.safetensors");
    model.refused("shard 'b.safetensors' cannot be found");
  }
}

TEST_CASE("sharded: rule 26, the index and what it lists") {
  const auto refused = [](std::string_view json, const char* why) {
    INFO(json.substr(0, 80));
    Model(json).refused(why);
  };
  refused("", "not valid JSON");
  refused("[]", "index is an array, expected an object with a weight_map");
  refused("{}", "weight_map is missing");
  refused(R"({"metadata":{}})", "weight_map is missing");
  refused(weight_map("[]"), "weight_map is an array, expected an object of file names");
  refused(weight_map("null"), "weight_map is null");
  refused(weight_map(R"({"x":1})"), "weight_map 'x' is the number 1, expected a file name");
  refused(weight_map(R"({"x":null})"), "weight_map 'x' is null");
  refused(weight_map(R"({"x":["a.safetensors"]})"), "weight_map 'x' is an array");
  refused(weight_map(R"({"x":"a.safetensors","x":"b.safetensors"})"), "duplicate JSON key 'x'");
  refused(R"({"weight_map":{},"weight_map":{}})", "duplicate JSON key 'weight_map'");
  refused("\xEF\xBB\xBF" + weight_map("{}"), "byte-order mark");
  refused(weight_map("{}") + std::string(1, '\0'), "NUL byte");
  refused(R"({"metadata":{"a":[[[]]]}})", "nested too deep");
  refused(weight_map(R"({"w":"a.safetensors"})"), "tensor 'w' is not in its shard 'a.safetensors'");
  refused(weight_map(R"({"x":"a.safetensors","y":"b.safetensors"})"), "tensor 'y' is not in its shard 'b.safetensors'");
  refused(weight_map(R"({"x":"model.safetensors.index.json"})"), "not a safetensors file");
}

TEST_CASE("sharded: rule 26, the same tensor in two shards") {
  for (const char* map :
       {R"({"x":"a.safetensors","z":"b.safetensors"})", R"({"y":"a.safetensors","z":"b.safetensors"})"}) {
    const Model model(weight_map(map));  // whether the doubled tensor is listed or not
    write_bytes(model.folder + "/b.safetensors", shard_image({"x", "z"}));
    model.refused("tensor 'x' is in two shards: 'a.safetensors' and 'b.safetensors'");
  }
}

TEST_CASE("sharded: rule 26, oddities that are warnings") {
  SUBCASE("tensors that are not listed") {
    const Safetensors file(Model(weight_map(R"({"y":"a.safetensors","z":"b.safetensors"})")).index);
    CHECK(file.entries().size() == 2);
    CHECK(file.find("x") == nullptr);
    REQUIRE(file.warnings().size() == 1);
    CHECK(file.warnings()[0] ==
          "shard 'a.safetensors' holds tensors that the index does not list, such as 'x'; they are left out");
  }
  SUBCASE("total_size") {
    const auto warnings = [](const std::string& total_size) {
      return Safetensors(
                 Model(R"({"metadata":{"total_size":)" + total_size + R"(},"weight_map":)" + good_map + "}").index)
          .warnings();
    };
    const auto files = std::to_string(shard_image({"x", "y"}).size() + shard_image({"z"}).size());
    CHECK(warnings("3").empty());
    CHECK(warnings(files).empty());
    CHECK(warnings("\"3\"").empty());
    REQUIRE(warnings("4").size() == 1);
    CHECK(warnings("4")[0] ==
          "total_size in the index is 4, but the shards hold 3 bytes of tensors in " + files + " bytes of files");
    CHECK(warnings("1.5e3").size() == 1);
  }
  SUBCASE("metadata that differs") {
    const Model model(weight_map(good_map));
    const std::string first = R"("__metadata__":{"format":"pt","a":"1"})", second = R"("__metadata__":{"format":"np"})";
    write_bytes(model.folder + "/a.safetensors", shard_image({"x", "y"}, first));
    write_bytes(model.folder + "/b.safetensors", shard_image({"z"}, second));
    const Safetensors file(model.index);
    CHECK(file.metadata() == std::map<std::string, std::string>{{"a", "1"}, {"format", "pt"}});
    REQUIRE(file.warnings().size() == 1);
    CHECK(file.warnings()[0] == "metadata 'format' differs between shards, the first shard's is kept");
  }
  SUBCASE("an empty index") { CHECK(Safetensors(Model(weight_map("{}")).index).entries().empty()); }
}

TEST_CASE("sharded: rule 26, size of the index and number of shards and tensors") {
  std::string shards = "{\"0\":\"0\"", tensors = shards;
  for (size_t i = 1; i <= max_shards; ++i) shards += concat(",\"", i, "\":\"", i, "\"");
  CHECK_THROWS_WITH_AS(parse_index("i", weight_map(shards + "}")), doctest::Contains("too many shards"), FormatError);
  for (size_t i = 1; i <= max_tensors; ++i) tensors += concat(",\"", i, "\":\"0\"");
  CHECK_THROWS_WITH_AS(parse_index("i", weight_map(tensors + "}")), doctest::Contains("too many tensors"), FormatError);
  const Model model("{}");
  fs::resize_file(model.index, max_index_bytes + 1);  // a hole on disk: costs nothing
  model.refused("index has 100000001 bytes, expected at most 100000000");
}

TEST_CASE("sharded: a broken shard is named") {
  const Model model(weight_map(good_map));
  write_bytes(model.folder + "/b.safetensors", "short");
  model.refused("/b.safetensors] file has 5 bytes");
}

}  // namespace parabola::sharded_index_test
