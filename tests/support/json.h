// JSON as tests look at it: records of the apps, what the golden files' authors noted. Not the JSON library's own type,
// which costs every file that includes it five seconds of compiling.
#pragma once
#include <compare>
#include <iosfwd>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/io/strict_json.h"

namespace parabola {

class Json {
 public:
  Json() = default;
  // FormatError on anything that is not strict JSON, or deeper than our own files (engine/io/strict_json.h).
  explicit Json(std::string_view text);

  bool contains(std::string_view key) const;
  const Json& at(std::string_view key) const;  // Error where it is not there
  void erase(std::string_view key);

  // The values of an array or object, in the order of the file.
  const Json& operator[](size_t index) const { return members_.at(index); }
  size_t size() const { return members_.size(); }
  auto begin() const { return members_.begin(); }
  auto end() const { return members_.end(); }

  double number() const;            // Error for what is no number
  const std::string& text() const;  // of a string, or a number as written; Error for anything else
  operator double() const { return number(); }
  operator std::string() const { return text(); }

  // Numbers by value, however they are written; objects with the same keys in the same order.
  friend bool operator==(const Json& left, const Json& right);
  friend bool operator==(const Json& left, std::string_view text) {
    return left.kind_ == JsonKind::string && left.text_ == text;
  }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  friend bool operator==(const Json& left, Number right) { return left.number() == static_cast<double>(right); }
  friend auto operator<=>(const Json& left, const Json& right) { return left.number() <=> right.number(); }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  friend auto operator<=>(const Json& left, Number right) { return left.number() <=> static_cast<double>(right); }
  friend std::ostream& operator<<(std::ostream& out, const Json& value);  // for doctest's messages

 private:
  bool is_number() const { return kind_ == JsonKind::natural || kind_ == JsonKind::number; }

  JsonKind kind_ = JsonKind::null;
  std::string key_, text_;
  std::vector<Json> members_;
};

}  // namespace parabola
