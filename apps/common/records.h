// Records for programs: one JSON object a line, as --json, log.jsonl and result.jsonl hold them.
#pragma once
#include <concepts>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "engine/io/strict_json.h"

namespace parabola {

std::string json_number(double value);  // the shortest text that reads back as the same value; NaN, Inf: null
std::string json_number(float value);   // the same for float: 0.1f is 0.1, not 0.10000000149011612

// A JSON object whose keys stay in the order in which they were added; a key is added once.
//     Record("epoch").add("epoch", 3).add("train_loss", 0.41).str()  ==  {"event":"epoch","epoch":3,"train_loss":0.41}
class Record {
 public:
  Record() = default;
  explicit Record(std::string_view event) { add("event", event); }

  // value: text, bool, a number, another Record, std::optional of these (null where empty), or a range of these.
  template <class T>
  Record& add(std::string_view key, const T& value) {
    fields_ += (fields_.empty() ? "" : ",") + quote_json_lossily(key) + ":" + to_json(value);
    return *this;
  }
  std::string str() const { return "{" + fields_ + "}"; }

 private:
  template <class T>
  static std::string to_json(const std::optional<T>& value) {
    return value ? to_json(*value) : "null";
  }
  template <class T>
  static std::string to_json(const T& value) {
    if constexpr (std::same_as<T, Record>) {
      return value.str();
    } else if constexpr (std::same_as<T, bool>) {
      return value ? "true" : "false";
    } else if constexpr (std::is_integral_v<T>) {
      return std::to_string(value);
    } else if constexpr (std::is_floating_point_v<T>) {
      return json_number(value);
    } else if constexpr (std::convertible_to<const T&, std::string_view>) {
      return quote_json_lossily(value);
    } else {
      std::string items;
      for (const auto& item : value) items += (items.empty() ? "" : ",") + to_json(item);
      return "[" + items + "]";
    }
  }

  std::string fields_;
};

// Where records go: a file, standard output ("-"), or nowhere (an empty path: what a missing --json gives).
class JsonLines {
 public:
  // Opens path for writing and keeps its first `keep` bytes: 0 starts anew; a resumed run passes the bytes() that its
  // saved state remembers, so that lines written after that state do not stay twice. What was there is cut at the first
  // write only, and a file that did not exist and got no line is removed again: a run that is refused leaves nothing
  // behind. UsageError: path cannot be opened, or holds less than `keep` bytes.
  explicit JsonLines(std::string path, int64_t keep = 0);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  // Appends one line, handed to the system before it returns. Error: it cannot be written (disk full, closed pipe); a
  // file then ends with the last whole line.
  void write(const Record& record);

  int64_t bytes() const { return bytes_; }  // length of the file so far

 private:
  std::string path_;
  int64_t bytes_;
  int file_ = -1;         // file descriptor; -1 for nowhere
  bool regular_ = false;  // an ordinary file, which can be cut and removed: no pipe, no device
  bool created_ = false;
  bool written_ = false;
};

// The stream for people: standard output, or standard error where "--json -" gives standard output to the records.
std::ostream& human_output(std::string_view json_path);

}  // namespace parabola
