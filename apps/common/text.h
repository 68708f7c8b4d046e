// Small helpers for what people read: numbers with their units, tables, and a guess at what was meant.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace parabola {

std::string format_count(int64_t n);                            // 1,596,874
std::string format_bytes(int64_t bytes);                        // 812 B, 1.5 MiB: binary units, one decimal
std::string format_duration(double seconds);                    // 0.8 s, 42 s, 3 min 07 s, 2 h 05 min
std::string format_fixed(double value, int decimals);           // 0.4123; "-" for NaN, the value that is not there
std::string format_percent(double fraction, int decimals = 2);  // 0.8103 -> 81.03%; "-" for NaN

// Columns on a terminal: `text` takes this many (code points of UTF-8; wide and combining characters count as one).
size_t display_width(std::string_view text);

// Text in columns under a header. A column whose cells all look like numbers (or are empty or "-") is set flush right,
// any other flush left. Every row has as many cells as the header. str() ends each line with a newline, none with
// blanks.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row);
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the first is the header
};

// "cosine or constant"; "a, b or c".
std::string either(std::span<const std::string> words);

// The word among `known` that `given` is probably a misspelling of; empty where none is near. Near: at most a third of
// the letters wrong, missing, added or swapped with their neighbour (optimal string alignment distance), or `given`
// begins it.
std::string nearest_word(std::string_view given, std::span<const std::string> known);

}  // namespace parabola
