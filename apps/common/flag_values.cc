#include "apps/common/flag_values.h"

#include <algorithm>
#include <cmath>

#include "apps/common/text.h"
#include "engine/core/device.h"

namespace parabola::flag_values {

std::string in_quotes(Text text) { return "\"" + printable(text, 60) + "\""; }

int64_t whole(Text text, int32_t low, int32_t high) {
  int32_t value = 0;
  if (!read_number(text, value) || value < low || value > high)
    refuse("got ", in_quotes(text), ", expected a whole number from ", low, " to ", high);
  return value;
}

double number(Text text, double low, const char* expected) {
  double value = 0;
  if (!read_number(text, value) || !std::isfinite(value) || value < low)
    refuse("got ", in_quotes(text), ", expected ", expected);
  return value;
}
double below_one(Text text) {
  const char* expected = "a number from 0 to below 1";
  const double value = number(text, 0, expected);
  if (value >= 1) refuse("got ", in_quotes(text), ", expected ", expected);
  return value;
}
double not_negative(Text text) { return number(text, 0, "a number of at least 0"); }

size_t byte_size(Text text) {
  constexpr struct {
    const char* name;
    uint64_t bytes;
  } units[] = {
      {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30},   {"TiB", 1ULL << 40},       {"kB", 1'000},
      {"KB", 1'000},       {"MB", 1'000'000},   {"GB", 1'000'000'000}, {"TB", 1'000'000'000'000}, {"B", 1}};
  Text digits = text;
  uint64_t unit = 1, count = 0;
  for (const auto& [name, bytes] : units)
    if (text.ends_with(name)) {
      digits.remove_suffix(Text(name).size());
      unit = bytes;
      break;
    }
  if (!read_number(digits, count) || count == 0 || count > std::numeric_limits<int64_t>::max() / unit)
    refuse("got ", in_quotes(text), ", expected a size above 0, such as 256MiB, 2GB or a number of bytes");
  return count * unit;
}

std::string some_text(Text text, const char* expected) {
  if (text.empty()) refuse("got nothing, expected ", expected);
  return std::string(text);
}

std::string choice(Text text, const Words& built, const Words& planned) {
  const std::string word(text);
  if (std::find(built.begin(), built.end(), word) != built.end()) return word;
  if (std::find(planned.begin(), planned.end(), word) != planned.end())
    refuse(word, " is not built yet, expected ", either(built));
  const std::string meant = nearest_word(word, built);
  refuse("got ", in_quotes(text), ", expected ", either(built), meant.empty() ? "" : "; did you mean " + meant + "?");
}

Augmentation augmentation(Text text) {
  Augmentation how;
  if (text == "none") return how;
  Words known;
  for (const auto& [name, member] : augmentation_names) known.emplace_back(name);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string word = choice(text.substr(begin, comma - begin), known);
    bool& wanted = how.*std::ranges::find(augmentation_names, word, &AugmentationName::name)->member;
    if (wanted) refuse(word, " is named twice, expected once");
    wanted = true;
    begin = comma + 1;
  }
  return how;
}

Device device(Text text) {
  if (text == "cpu") return {};
  int index = 0;
  if (text != "cuda" && !(text.starts_with("cuda:") && read_number(text.substr(5), index) && index >= 0))
    refuse("got ", in_quotes(text), ", expected cpu, cuda or cuda:N");
  const Device device{DeviceKind::cuda, index};
  try {
    require_device(device);
  } catch (const DeviceError& error) {
    std::string reason = error.what();
    reason.erase(0, reason.find("] ") + 2);  // who says so is of no interest here
    throw DeviceError(concat("--device: got ", text, ", but ", reason));
  }
  return device;
}

}  // namespace parabola::flag_values
