#include "engine/io/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "engine/core/error.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {

using nlohmann::json;

// The library's event receiver: turns its events into (path, value) and enforces what it does not.
class Walker {
 public:
  Walker(std::string_view file, const JsonVisitor& visit) : file_(printable_path(file)), visit_(visit) {}

  bool null() { return emit({JsonKind::null, 0, {}}); }
  bool boolean(bool value) { return emit({JsonKind::boolean, 0, value ? "true" : "false"}); }
  bool number_unsigned(uint64_t value) { return emit({JsonKind::natural, value, std::to_string(value)}); }
  bool number_integer(int64_t value) {  // only what is written with a minus sign comes here, "-0" among it
    return emit({JsonKind::number, 0, value ? std::to_string(value) : "-0"});
  }
  bool number_float(double, const std::string& written) { return emit({JsonKind::number, 0, written}); }
  bool string(const std::string& value) { return emit({JsonKind::string, 0, value}); }
  bool binary(const json::binary_t&) { return false; }  // occurs in binary formats only
  bool start_object(size_t) { return open(JsonKind::object, ""); }
  bool start_array(size_t) { return open(JsonKind::array, "[]"); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(const std::string& name) {
    if (name.size() > max_json_key_bytes)
      fail<FormatError>(file_, "JSON key '", printable(name, 40), "' is too long: got ", name.size(),
                        " bytes, expected at most ", max_json_key_bytes);
    if (!keys_.back().insert(name).second)
      fail<FormatError>(file_, "duplicate JSON key '", printable(name), "', expected each key once");
    path_.back() = name;
    return true;
  }

  bool parse_error(size_t, const std::string&, const json::exception& error) {
    const std::string_view text = error.what();  // "[json.exception.parse_error.101] parse error at line 1, ..."
    fail<FormatError>(file_, "not valid JSON: ", printable(text.substr(text.find("] ") + 2), 200));
  }

 private:
  bool emit(const JsonValue& value) { return visit_(path_, value), true; }
  bool open(JsonKind kind, const char* part) {
    emit({kind, 0, {}});
    if (path_.size() == max_json_depth)
      fail<FormatError>(file_, "JSON is nested too deep, expected at most ", max_json_depth, " levels");
    path_.emplace_back(part);
    keys_.emplace_back();
    return true;
  }
  bool close() { return path_.pop_back(), keys_.pop_back(), true; }

  std::string file_;
  const JsonVisitor& visit_;
  std::vector<std::string> path_;
  std::vector<std::set<std::string>>
      keys_;  // of each open object; a tree, since hashes of chosen keys can be made to collide
};

}  // namespace

std::string JsonValue::describe() const {
  switch (kind) {
    case JsonKind::null: return "null";
    case JsonKind::boolean: return std::string(text);
    case JsonKind::natural:
    case JsonKind::number: return "the number " + printable(text, 40);
    case JsonKind::string: return "a string '" + printable(text) + "'";
    case JsonKind::object: return "an object";
    case JsonKind::array: return "an array";
  }
  return "?";
}

void walk_json(std::string_view file, std::string_view text, const JsonVisitor& visit) {
  // The library skips the one and takes the other for the end of the text.
  if (text.starts_with("\xEF\xBB\xBF"))
    fail<FormatError>(printable_path(file), "JSON begins with a byte-order mark, expected '{'");
  if (const size_t at = text.find('\0'); at != text.npos)
    fail<FormatError>(printable_path(file), "JSON holds a NUL byte at position ", at,
                      ", expected padding by spaces only");
  Walker walker(file, visit);
  json::sax_parse(text.begin(), text.end(), &walker);
}

std::string quote_json(std::string_view text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    fail<UsageError>("json", "text is not UTF-8: '", printable(text), "'");
  }
}

std::string quote_json_lossily(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

// The JSON library has no function for this alone.
std::string valid_utf8(std::string_view text) {
  std::string valid;
  walk_json("json", quote_json_lossily(text), [&](JsonPath, const JsonValue& value) { valid = value.text; });
  return valid;
}

}  // namespace parabola
