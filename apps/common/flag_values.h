// What a flag's text may mean. Each reader returns the value or throws Refusal, to which the flag's name is added.
#pragma once
#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "data/augment.h"
#include "engine/core/dtype.h"
#include "engine/core/error.h"

namespace parabola::flag_values {

using Text = std::string_view;
using Words = std::vector<std::string>;

struct Refusal {
  std::string text;
};
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Refusal{concat(parts...)};
}
std::string in_quotes(Text text);

// The whole text as one number; false for rubbish before or after it and for what the type cannot hold.
template <class Number>
bool read_number(Text text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

int64_t whole(Text text, int32_t low, int32_t high = std::numeric_limits<int32_t>::max());
double number(Text text, double low, const char* expected);
double below_one(Text text);
double not_negative(Text text);
size_t byte_size(Text text);  // 256MiB, 2GB, a plain number of bytes; above 0
std::string some_text(Text text, const char* expected);

// One word of `built`. A word of `planned` is known, but its issue has not been worked on yet.
std::string choice(Text text, const Words& built, const Words& planned = {});
Augmentation augmentation(Text text);  // names with commas between them, or `none`
Device device(Text text);              // DeviceError, which names the flag, where it is not there

}  // namespace parabola::flag_values
