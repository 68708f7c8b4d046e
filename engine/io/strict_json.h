// JSON from files that nobody vouches for, read strictly: duplicate keys, a byte-order mark and NUL padding, which the
// JSON library lets pass, are errors here; depth and key length are bounded. Values stream by, so that memory stays
// bounded by what the visitor keeps.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace parabola {

// What real headers need: file -> tensor -> shape is three levels; a fourth leaves room for fields unknown here.
constexpr size_t max_json_depth = 4;
// Longest names of real models are near 200 bytes.
constexpr size_t max_json_key_bytes = 4096;

// natural: an integer from 0 to 2^64 - 1 written without sign, fraction or exponent; number: any other number.
enum class JsonKind : uint8_t { null, boolean, natural, number, string, object, array };

struct JsonValue {
  JsonKind kind = JsonKind::null;
  uint64_t natural = 0;   // of kind natural
  std::string_view text;  // a string's value, or a number as written

  std::string describe() const;  // for messages: "a string 'F33'", "the number -1", "an object"
};

// Keys from the root down to a value; an element of an array has "[]" for its last part.
using JsonPath = std::span<const std::string>;
using JsonVisitor = std::function<void(JsonPath path, const JsonValue& value)>;

// Walks `text`, one JSON document, in order and calls `visit` for every value (an object or array before its members).
// FormatError naming `file` on anything that is not strict JSON in UTF-8, or beyond the limits above.
void walk_json(std::string_view file, std::string_view text, const JsonVisitor& visit);

// `text` as a JSON string, quotes included. UsageError where it is not UTF-8.
std::string quote_json(std::string_view text);
// For text that must go out whatever it is, a file's name in a message: bytes that are not UTF-8 become U+FFFD.
std::string quote_json_lossily(std::string_view text);
std::string valid_utf8(std::string_view text);  // the same without quotes and escapes

}  // namespace parabola
