// One malformed file for each rule of the safetensors format about a single file, with the error that names it; and
// what looks odd but is legal.
#include <vector>

#include "engine/core/error.h"
#include "tests/io/io_support.h"
#include "tests/support/test.h"

namespace parabola::safetensors_header_test {
namespace {

struct BadFile {
  std::string_view what;
  std::string image;
  std::string_view error;  // what the message must say
};

// Checked from memory and from a file: the message, its type, and that it is one line that names the file.
void check_refused(const std::vector<BadFile>& files) {
  const std::string path = scratch_folder() + "/bad.safetensors";
  for (const BadFile& file : files) {
    INFO(file.what);
    CHECK_THROWS_WITH_AS(parse_image("bad.safetensors", file.image), doctest::Contains(file.error.data()), FormatError);
    write_bytes(path, file.image);
    try {
      const Safetensors opened(path);
      FAIL_CHECK("the file was accepted");
    } catch (const FormatError& error) {
      const std::string_view message = error.what();
      INFO(message);
      CHECK(message.starts_with("[" + path + "] "));
      CHECK(message.find(file.error) != message.npos);
      CHECK(message.find_first_of(std::string_view("\n\0", 2)) == message.npos);
    }
  }
}

// A file with this header and `data_bytes` bytes of data.
BadFile bad_header(std::string_view what, std::string_view json, std::string_view error, size_t data_bytes = 0) {
  return {what, safetensors_image(json, std::string(data_bytes, 'd')), error};
}

// A file with one tensor 't' of 8 data bytes, whose entry has these three values.
BadFile bad_tensor(std::string_view what, std::string_view dtype, std::string_view shape, std::string_view offsets,
                   std::string_view error) {
  return bad_header(what, header_of({header_entry("t", dtype, shape, offsets)}), error, 8);
}

const std::string good_entry = header_entry("t", "F32", "[2]", "[0,8]");

}  // namespace

TEST_CASE("safetensors: rules 1 to 3, the length of the header") {
  const std::string html = "<!DOCTYPE html><html><head><title>404</title></head></html>";
  check_refused({
      {"rule 1: no bytes", "", "file has 0 bytes, expected at least the 8"},
      {"rule 1: seven bytes", std::string(7, '\0'), "file has 7 bytes, expected at least the 8"},
      {"rule 2: one byte over the limit", length_prefix(100'000'001) + "{}", "length of 100000001, expected at most"},
      {"rule 2: all bits", length_prefix(~uint64_t{0}) + "{}", "header length of 18446744073709551615"},
      {"rule 2: the top bit", length_prefix(uint64_t{1} << 63) + "{}", "header length of 9223372036854775808"},
      {"rule 3: beyond the file", length_prefix(3) + "{}", "cut short or not a safetensors file: header length 3"},
      {"rule 3: nothing behind the length", length_prefix(2), "only 0 bytes follow"},
      {"rule 3: an empty header", length_prefix(0), "header is empty"},
      {"rule 3: an empty header before data", length_prefix(0) + "data", "header is empty"},
      {"rule 3: a web page", html, "this looks like an HTML page"},
      {"rule 3: a web page after blank lines", "\n\n  " + html, "this looks like an HTML page"},
      {"rule 3: a zip", std::string("PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl", 26), "(pickle) file: convert it"},
      {"rule 3: a pickle", std::string("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j", 11), "(pickle) file: convert it"},
      {"rule 3: a pickle whose bytes make a small length", std::string("\x80\x04\x95\0\0\0\0\0\0", 9), "(pickle) file"},
      {"rule 3: a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"},
  });
}

TEST_CASE("safetensors: rule 2, a header of exactly the limit is legal") {
  CHECK(read_header_length("m", length_prefix(100'000'000), 100'000'008) == 100'000'000);
  CHECK_THROWS_AS(read_header_length("m", length_prefix(100'000'000), 100'000'007), FormatError);
}

TEST_CASE("safetensors: rules 4 and 5, the header is one JSON object in UTF-8") {
  const std::string empty = "{}";
  check_refused({
      bad_header("rule 4: not JSON", "{\"t\":", "not valid JSON"),
      bad_header("rule 4: white space only", "    ", "not valid JSON"),
      bad_header("rule 4: an array", "[]", "header is an array, expected one JSON object"),
      bad_header("rule 4: a string", "\"t\"", "header is a string 't', expected one JSON object"),
      bad_header("rule 4: a number", "12345678", "header is the number 12345678"),
      bad_header("rule 4: two objects", "{}{}", "not valid JSON"),
      bad_header("rule 4: trailing comma", header_of({good_entry, ""}), "not valid JSON", 8),
      bad_header("rule 4: comment", "{}//", "not valid JSON"),
      bad_header("rule 4: single quotes", "{'t':{}}", "not valid JSON"),
      bad_header("rule 4: UTF-8 cut short", "{\"\xc3\":{}}", "not valid JSON"),
      bad_header("rule 4: overlong UTF-8", "{\"\xc0\xaf\":{}}", "not valid JSON"),
      bad_header("rule 4: byte ff", "{}\xff", "not valid JSON"),
      bad_header("rule 4: half a surrogate pair", R"({"\ud800":{}})", "not valid JSON"),
      bad_header("rule 4: control character in a string", "{\"a\nb\":{}}", "not valid JSON"),
      bad_header("rule 4: number out of range", R"({"t":{"dtype":1e999}})", "not valid JSON"),
      bad_header("rule 4: byte-order mark", "\xEF\xBB\xBF{}", "JSON begins with a byte-order mark"),
      bad_header("rule 4: UTF-16", std::string("\xff\xfe{\0}\0", 6), "NUL byte at position 3"),
      bad_header("rule 4: NUL padding", empty + std::string(6, '\0'), "NUL byte at position 2"),
      bad_header("rule 4: NUL in front", '\0' + empty, "NUL byte at position 0"),
      bad_header("rule 5: something else in front", "," + empty, "not valid JSON"),
  });
}

TEST_CASE("safetensors: rule 6, duplicate keys") {
  check_refused({
      bad_header("tensor twice", header_of({good_entry, good_entry}), "duplicate JSON key 't'", 8),
      bad_header("the same name spelt with an escape", header_of({good_entry, R"("\u0074":{})"}),
                 "duplicate JSON key 't'", 8),
      bad_header("dtype twice", R"({"t":{"dtype":"F32","dtype":"F32"}})", "duplicate JSON key 'dtype'"),
      bad_header("shape twice", R"({"t":{"shape":[1],"shape":[1]}})", "duplicate JSON key 'shape'"),
      bad_header("offsets twice", R"({"t":{"data_offsets":[0,1],"data_offsets":[0,1]}})", "key 'data_offsets'"),
      bad_header("unknown field twice", R"({"t":{"note":1,"note":1}})", "duplicate JSON key 'note'"),
      bad_header("inside an unknown field", R"({"t":{"note":{"a":1,"a":1}}})", "duplicate JSON key 'a'"),
      bad_header("metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "duplicate JSON key '__metadata__'"),
      bad_header("metadata key twice", R"({"__metadata__":{"a":"1","a":"1"}})", "duplicate JSON key 'a'"),
  });
}

TEST_CASE("safetensors: rule 7, bounds of the JSON parser") {
  std::string many = "{\"0\":{}";
  for (size_t i = 1; i <= max_tensors; ++i) many += ",\"" + std::to_string(i) + "\":{}";
  check_refused({
      bad_header("depth", R"({"t":{"note":[[[0]]]}})", "nested too deep, expected at most 4"),
      bad_header("depth of a bomb", concat(R"({"t":{"note":)", std::string(1'000'000, '[')), "nested too deep"),
      bad_header("key length", concat("{\"", std::string(4097, 'k'), "\":{}}"), "is too long: got 4097 bytes"),
      bad_header("tensor count", many + "}", "too many tensors, expected at most 200000"),
  });
}

TEST_CASE("safetensors: rule 8, metadata") {
  check_refused({
      bad_header("null", R"({"__metadata__":null})", "__metadata__ is null, expected an object of strings"),
      bad_header("a string", R"({"__metadata__":"pt"})", "__metadata__ is a string 'pt'"),
      bad_header("an array", R"({"__metadata__":[]})", "__metadata__ is an array"),
      bad_header("a number in it", R"({"__metadata__":{"epoch":3}})", "__metadata__ 'epoch' is the number 3"),
      bad_header("null in it", R"({"__metadata__":{"a":null}})", "__metadata__ 'a' is null, expected a string"),
      bad_header("nested", R"({"__metadata__":{"a":{"b":"c"}}})", "__metadata__ 'a' is an object"),
      bad_header("an array in it", R"({"__metadata__":{"a":["b"]}})", "__metadata__ 'a' is an array"),
      // Rule 21: "__metadata__" is never a tensor.
      bad_header("a tensor of this name", header_of({header_entry("__metadata__", "F32", "[2]", "[0,8]")}),
                 "__metadata__ 'shape' is an array, expected a string", 8),
  });
}

TEST_CASE("safetensors: rules 9 and 10, the fields of a tensor and its dtype") {
  check_refused({
      bad_header("rule 9: a string", R"({"t":"F32"})", "tensor 't': entry is a string 'F32', expected an object"),
      bad_header("rule 9: an array", R"({"t":[]})", "tensor 't': entry is an array"),
      bad_header("rule 9: null", R"({"t":null})", "tensor 't': entry is null"),
      bad_header("rule 9: a number", R"({"t":1})", "tensor 't': entry is the number 1"),
      bad_header("rule 9: no fields", R"({"t":{}})", "tensor 't': dtype is missing"),
      bad_header("rule 9: no dtype", R"({"t":{"shape":[2],"data_offsets":[0,8]}})", "dtype is missing", 8),
      bad_header("rule 9: no shape", R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", "shape is missing", 8),
      bad_header("rule 9: no offsets", R"({"t":{"dtype":"F32","shape":[2]}})", "data_offsets is missing", 8),
      bad_header("rule 9: dtype a number", R"({"t":{"dtype":32}})", "tensor 't': dtype is the number 32"),
      bad_header("rule 9: dtype an object", R"({"t":{"dtype":{}}})", "tensor 't': dtype is an object"),
      bad_tensor("rule 10: unknown", "F33", "[2]", "[0,8]", "tensor 't': unknown dtype 'F33'"),
      bad_tensor("rule 10: lower case", "f32", "[2]", "[0,8]", "tensor 't': unknown dtype 'f32'"),
      bad_tensor("rule 10: empty", "", "[2]", "[0,8]", "tensor 't': unknown dtype ''"),
  });
}

TEST_CASE("safetensors: rules 11 to 13, shapes") {
  check_refused({
      bad_tensor("rule 11: a number", "F32", "2", "[0,8]", "shape is the number 2, expected an array of integers"),
      bad_tensor("rule 11: a string", "F32", "\"2\"", "[0,8]", "shape is a string '2'"),
      bad_tensor("rule 11: null", "F32", "null", "[0,8]", "shape is null"),
      bad_tensor("rule 11: an object", "F32", "{}", "[0,8]", "shape is an object"),
      bad_tensor("rule 11: a negative size", "F32", "[-2]", "[0,8]", "shape holds the number -2"),
      bad_tensor("rule 11: two negative sizes", "F32", "[-1,-2]", "[0,8]", "shape holds the number -1"),
      bad_tensor("rule 11: minus zero", "F32", "[-0]", "[0,8]", "shape holds the number -0"),
      bad_tensor("rule 11: a fraction", "F32", "[2.0]", "[0,8]", "shape holds the number 2.0"),
      bad_tensor("rule 11: an exponent", "F32", "[2e0]", "[0,8]", "shape holds the number 2e0"),
      bad_tensor("rule 11: a string in it", "F32", "[\"2\"]", "[0,8]", "shape holds a string '2'"),
      bad_tensor("rule 11: null in it", "F32", "[null]", "[0,8]", "shape holds null"),
      bad_tensor("rule 11: a flag in it", "F32", "[true]", "[0,8]", "shape holds true"),
      bad_tensor("rule 11: an array in it", "F32", "[[2]]", "[0,8]", "shape holds an array"),
      bad_tensor("rule 11: over 64 bits", "F32", "[18446744073709551616]", "[0,8]", "the number 18446744073709551616"),
      bad_tensor("rule 11: rank", "F32", "[2,1,1,1,1,1,1]", "[0,8]", "more than 6 axes, which is not supported here"),
      bad_tensor("rule 12: product wraps to 0", "F32", "[4294967296,4294967296]", "[0,0]", "shape overflows"),
      bad_tensor("rule 12: product wraps to 2", "F32", "[9223372036854775809,2]", "[0,8]", "shape overflows"),
      bad_tensor("rule 12: bytes wrap to 8", "F32", "[4611686018427387906]", "[0,8]", "shape overflows"),
      bad_tensor("rule 12: behind a zero", "F32", "[0,4294967296,4294967296]", "[0,0]", "shape overflows"),
      bad_tensor("rule 12: before a zero", "F32", "[4294967296,4294967296,0]", "[0,0]", "shape overflows"),
      bad_tensor("rule 13: half a byte", "F4", "[3]", "[0,2]", "got 12 bits of F4, expected a multiple of 8"),
      bad_tensor("rule 13: six bits", "F6_E2M3", "[1]", "[0,1]", "got 6 bits of F6_E2M3, expected a multiple of 8"),
  });
}

TEST_CASE("safetensors: rules 14 to 16, the bytes of a tensor") {
  check_refused({
      bad_tensor("rule 14: one", "F32", "[2]", "[8]", "data_offsets: got 1 integers, expected two"),
      bad_tensor("rule 14: three", "F32", "[2]", "[0,8,8]", "data_offsets: got 3 integers, expected two"),
      bad_tensor("rule 14: none", "F32", "[2]", "[]", "data_offsets: got 0 integers, expected two"),
      bad_tensor("rule 14: an object", "F32", "[2]", "{\"begin\":0}", "data_offsets is an object"),
      bad_tensor("rule 14: negative", "F32", "[2]", "[-8,0]", "data_offsets holds the number -8"),
      bad_tensor("rule 14: a fraction", "F32", "[2]", "[0.0,8]", "data_offsets holds the number 0.0"),
      bad_tensor("rule 14: an exponent", "F32", "[2]", "[0,8e0]", "data_offsets holds the number 8e0"),
      bad_tensor("rule 14: over 64 bits", "F32", "[2]", "[0,18446744073709551616]", "data_offsets holds the number"),
      bad_tensor("rule 14: begin behind end", "F32", "[2]", "[8,0]", "data_offsets: begin 8 is behind end 0"),
      bad_tensor("rule 15: too few bytes", "F32", "[2]", "[0,4]", "span 4 bytes, expected 8 for F32 [2]"),
      bad_tensor("rule 15: too many bytes", "F32", "[1]", "[0,8]", "span 8 bytes, expected 4 for F32 [1]"),
      bad_tensor("rule 15: bytes for an empty tensor", "F32", "[0,5]", "[0,8]", "expected 0 for F32 [0, 5]"),
      bad_tensor("rule 15: no bytes for a scalar", "F32", "[]", "[0,0]", "span 0 bytes, expected 4 for F32 []"),
      bad_tensor("rule 16: beyond the data", "F32", "[3]", "[0,12]", "end at 12, beyond the 8 bytes of data"),
      bad_tensor("rule 16: would wrap", "F32", "[2]", "[18446744073709551607,18446744073709551615]",
                 "data_offsets end at 18446744073709551615, beyond the 8 bytes"),
  });
}

TEST_CASE("safetensors: rules 17 and 18, every byte belongs to one tensor") {
  const auto pair = [](std::string_view what, std::string_view first, std::string_view second, std::string_view error,
                       size_t data_bytes) {
    return bad_header(what, header_of({header_entry("a", "U8", "[4]", first), header_entry("b", "U8", "[4]", second)}),
                      error, data_bytes);
  };
  check_refused({
      pair("rule 17: overlap", "[0,4]", "[2,6]", "tensor 'b': data begins at 2, expected 4 (tensors overlap)", 6),
      pair("rule 17: aliases", "[0,4]", "[0,4]", "tensor 'b': data begins at 0, expected 4 (tensors overlap)", 4),
      pair("rule 17: a hole", "[0,4]", "[5,9]", "tensor 'b': data begins at 5, expected 4 (a hole in the data)", 9),
      pair("rule 17: a hole in front", "[1,5]", "[5,9]", "tensor 'a': data begins at 1, expected 0 (a hole", 9),
      pair("rule 17: not in the header's order", "[5,9]", "[0,4]", "tensor 'a': data begins at 5, expected 4", 9),
      pair("rule 18: trailing data", "[0,4]", "[4,8]", "tensors end at byte 8 of the data, expected all of its 9", 9),
      pair("rule 16 and 18: cut short", "[0,4]", "[4,8]", "data_offsets end at 8, beyond the 7 bytes of data", 7),
      bad_header("rule 18: data without tensors", "{}", "tensors end at byte 0 of the data, expected all of its 3", 3),
      bad_header("rule 17: an empty tensor in the middle of another",
                 header_of({good_entry, header_entry("e", "F32", "[0]", "[4,4]")}),
                 "tensor 'e': data begins at 4, expected 8 (tensors overlap)", 8),
  });
}

TEST_CASE("safetensors: rule 21, names cannot leave their line in a message") {
  const std::string name = R"(../../etc/passwd\n\u001b[31m%s%n)";
  check_refused({bad_header("escapes", concat("{\"", name, "\":{}}"), R"(tensor '../../etc/passwd\x0a\x1b[31m%s%n')"),
                 bad_header("long", concat("{\"", std::string(4000, 'n'), "\":{}}"), "nnn...': dtype is missing")});
}

TEST_CASE("safetensors: what looks odd and is legal") {
  SUBCASE("an empty header object") { CHECK(parse_image("m", safetensors_image("{}")).entries.empty()); }
  SUBCASE("rule 5: white space around the header") {
    CHECK(parse_image("m", safetensors_image(" \t\r\n{} \n\t\r")).entries.empty());
  }
  SUBCASE("rule 8: metadata alone, and empty") {
    CHECK(parse_image("m", safetensors_image(R"({"__metadata__":{}})")).metadata.empty());
    const auto header = parse_image("m", safetensors_image(R"({"__metadata__":{"format":"pt","":"\u00e9\n"}})"));
    CHECK(header.metadata == std::map<std::string, std::string>{{"", "\xc3\xa9\n"}, {"format", "pt"}});
  }
  SUBCASE("rule 9: unknown fields") {
    const std::string json = R"({"t":{"note":{"a":[1,-2.5,null]},"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    CHECK(parse_image("m", safetensors_image(json, "x")).entries.at(0).shape == Shape{1});
  }
  SUBCASE("rule 11: scalars and empty tensors, the latter anywhere between others") {
    const std::string json =
        header_of({header_entry("scalar", "F64", "[]", "[0,8]"), header_entry("behind", "F32", "[3,0]", "[8,8]"),
                   header_entry("front", "F32", "[0]", "[0,0]")});
    const auto entries = parse_image("m", safetensors_image(json, std::string(8, 'd'))).entries;
    REQUIRE(entries.size() == 3);
    CHECK(entries[0].name == "front");
    CHECK(entries[1].name == "scalar");
    CHECK(entries[1].shape.elements() == 1);
    CHECK(entries[2].shape == Shape{3, 0});
  }
  SUBCASE("rules 10 and 13: every dtype, eight elements each") {
    const struct {
      std::string name;
      int bits;
    } dtypes[] = {{"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"U16", 16},       {"I16", 16},    {"U32", 32},
                  {"I32", 32},    {"U64", 64},    {"I64", 64},        {"F16", 16},       {"BF16", 16},   {"F32", 32},
                  {"F64", 64},    {"C64", 64},    {"F8_E4M3", 8},     {"F8_E5M2", 8},    {"F8_E8M0", 8}, {"F4", 4},
                  {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
    for (const auto& dtype : dtypes) {
      INFO(dtype.name);
      const std::string json = header_of({header_entry("t", dtype.name, "[2,4]", concat("[0,", dtype.bits, "]"))});
      const auto header = parse_image("m", safetensors_image(json, std::string(static_cast<size_t>(dtype.bits), 'd')));
      REQUIRE(header.entries.size() == 1);
      CHECK(name_of(header.entries[0].dtype) == dtype.name);
      CHECK(bits_of(header.entries[0].dtype) == static_cast<uint64_t>(dtype.bits));
    }
  }
  SUBCASE("rule 19: names in any order, data that is not aligned") {
    const std::string json =
        header_of({header_entry("z", "F64", "[1]", "[1,9]"), header_entry("a", "U8", "[1]", "[0,1]")});
    const auto entries = parse_image("m", safetensors_image(json, std::string(9, 'd'))).entries;
    CHECK(entries.at(0).name == "a");
    CHECK(entries.at(1).begin == 1);
  }
  SUBCASE("rule 21: any name, an empty one and paths among them") {
    const std::string json =
        header_of({header_entry("", "U8", "[0]", "[0,0]"), header_entry("/a/../b\\u0000", "U8", "[0]", "[0,0]")});
    const auto entries = parse_image("m", safetensors_image(json)).entries;
    CHECK(entries.at(0).name == "");
    CHECK(entries.at(1).name == std::string("/a/../b\0", 8));
  }
}

}  // namespace parabola::safetensors_header_test
