#include "apps/common/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "engine/core/error.h"

namespace parabola {

std::string format_count(int64_t n) {
  std::string text = std::to_string(n);
  const int first_digit = n < 0 ? 1 : 0;
  for (int at = static_cast<int>(text.size()) - 3; at > first_digit; at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

std::string format_bytes(int64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double size = static_cast<double>(bytes);
  constexpr std::array units = {"KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  // 1023.95 would print as 1024.0: it is already one of the next unit.
  for (size /= 1024; size >= 1023.95 && unit + 1 < units.size(); size /= 1024) ++unit;
  return format_fixed(size, 1) + " " + units[unit];
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  if (seconds < 9.95) return format_fixed(seconds, 1) + " s";
  const int64_t whole = std::llround(seconds);
  char text[48];
  if (whole < 60) {
    std::snprintf(text, sizeof text, "%lld s", static_cast<long long>(whole));
  } else if (whole < 3600) {
    std::snprintf(text, sizeof text, "%lld min %02lld s", static_cast<long long>(whole / 60),
                  static_cast<long long>(whole % 60));
  } else {
    std::snprintf(text, sizeof text, "%lld h %02lld min", static_cast<long long>(whole / 3600),
                  static_cast<long long>(whole / 60 % 60));
  }
  return text;
}

std::string format_fixed(double value, int decimals) {
  if (std::isnan(value)) return "-";
  char text[400];  // the longest double has 309 digits before the point
  std::snprintf(text, sizeof text, "%.*f", std::clamp(decimals, 0, 20), value);
  return text;
}

std::string format_percent(double fraction, int decimals) {
  return std::isnan(fraction) ? "-" : format_fixed(100 * fraction, decimals) + "%";
}

size_t display_width(std::string_view text) {
  const auto begins_character = [](unsigned char c) { return (c & 0xc0) != 0x80; };
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

void Table::add(std::vector<std::string> row) {
  PARABOLA_ASSERT(row.size() == rows_.front().size());
  rows_.push_back(std::move(row));
}

std::string Table::str() const {
  const auto looks_like_number = [](const std::string& cell) {
    return cell.empty() || cell == "-" || cell.find_first_of("0123456789") == cell.find_first_not_of("+-.");
  };
  const size_t columns = rows_.front().size();
  std::vector<size_t> width(columns, 0);
  std::vector<bool> flush_right(columns, rows_.size() > 1);
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < columns; ++c) {
      width[c] = std::max(width[c], display_width(rows_[r][c]));
      if (r > 0 && !looks_like_number(rows_[r][c])) flush_right[c] = false;
    }
  }
  std::string out;
  const auto write = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t c = 0; c < columns; ++c) {
      const std::string blanks(width[c] - display_width(row[c]), ' ');
      line += (c ? "  " : "") + (flush_right[c] ? blanks + row[c] : row[c] + blanks);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  std::vector<std::string> rule;
  rule.reserve(columns);
  for (size_t w : width) rule.emplace_back(w, '-');
  write(rows_.front());
  write(rule);
  std::for_each(rows_.begin() + 1, rows_.end(), write);
  return out;
}

std::string either(std::span<const std::string> words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 < words.size() ? ", " : " or ") + words[i];
  return out;
}

namespace {
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const size_t replaced = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      cost[i][j] = std::min({replaced, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}
}  // namespace

std::string nearest_word(std::string_view given, std::span<const std::string> known) {
  if (given.size() < 2 || given.size() > 64) return "";  // too short to guess from, too long to be a slip
  std::string best;
  size_t best_distance = std::max<size_t>(1, given.size() / 3) + 1;
  for (const std::string& word : known) {
    const size_t distance = word.starts_with(given) ? 1 : edit_distance(given, word);
    if (distance < best_distance) best = word, best_distance = distance;
  }
  return best;
}

}  // namespace parabola
