#include "data/preprocess.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>
#include <vector>

#include "data/resize.h"
#include "engine/core/error.h"
#include "engine/io/strict_json.h"

namespace parabola {
namespace {

using Channels = Preprocessing::Channels;
constexpr const char* where = "preprocessing";
constexpr std::array<std::string_view, 3> channel_names = {"rgb", "bgr", "gray"};  // as enum Channels counts
constexpr int max_side = 65535;  // JPEG's limit; keeps products of sides far from overflow

// The shortest decimal that reads back as the same number.
template <class Number>
std::string shortest(Number number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::string list(const std::array<float, 3>& numbers) {
  return "[" + shortest(numbers[0]) + "," + shortest(numbers[1]) + "," + shortest(numbers[2]) + "]";
}

// The values of an object of numbers, strings, and lists of them, each as written in the JSON.
using Fields = std::map<std::string, std::vector<std::string>>;

Fields read_fields(std::string_view json) {
  Fields fields;
  walk_json(where, json, [&](JsonPath path, const JsonValue& value) {
    const bool holder = value.kind == (path.empty() ? JsonKind::object : JsonKind::array) && path.size() < 2;
    const bool leaf = !path.empty() && value.kind != JsonKind::object && value.kind != JsonKind::array;
    if (!holder && !leaf) fail<FormatError>(where, "got ", value.describe(), ", expected an object of plain values");
    const auto written = [&] {
      return value.kind == JsonKind::string ? quote_json(value.text) : std::string(value.text);
    };
    if (leaf) fields[path[0]].push_back(written());
  });
  return fields;
}

std::vector<std::string> take(Fields& fields, const char* key, size_t count) {
  std::vector<std::string> values = fields[key];
  fields.erase(key);
  if (values.size() != count) fail<FormatError>(where, key, ": got ", values.size(), " values, expected ", count);
  return values;
}

template <class Number>
Number parse_number(const std::string& text, const char* key) {
  Number number{};
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{} || stop != text.data() + text.size()) {
    fail<FormatError>(where, key, ": got ", printable(text), ", expected a number");
  }
  return number;
}

int take_side(Fields& fields, const char* key) {
  const int side = parse_number<int>(take(fields, key, 1)[0], key);
  if (side < 1 || side > max_side) fail<FormatError>(where, key, ": got ", side, ", expected 1 to ", max_side);
  return side;
}

Channels take_channels(Fields& fields) {
  const std::string text = take(fields, "channels", 1)[0];
  for (size_t i = 0; i < channel_names.size(); ++i) {
    if (text == quote_json(channel_names[i])) return static_cast<Channels>(i);
  }
  fail<FormatError>(where, "channels: got ", printable(text), ", expected \"rgb\", \"bgr\" or \"gray\"");
}

std::array<float, 3> take_three(Fields& fields, const char* key) {
  const std::vector<std::string> texts = take(fields, key, 3);
  std::array<float, 3> numbers{};
  for (size_t i = 0; i < 3; ++i) numbers[i] = parse_number<float>(texts[i], key);
  return numbers;
}

// torchvision rounds half a pixel to even.
int64_t margin(int64_t whole, int64_t part) {
  const int64_t twice = whole - part, half = twice / 2;
  return half + (twice % 2 == 1 && half % 2 == 1);
}

}  // namespace

std::string Preprocessing::str() const {
  return concat("{\"height\":", height, ",\"width\":", width, resize ? concat(",\"resize\":", resize) : std::string(),
                ",\"channels\":\"", channel_names[static_cast<size_t>(order)], "\",\"mean\":", list(mean),
                ",\"std\":", list(std), ",\"scale\":", shortest(scale), "}");
}

Preprocessing Preprocessing::parse(std::string_view json) {
  Fields fields = read_fields(json);
  const Preprocessing how{.height = take_side(fields, "height"),
                          .width = take_side(fields, "width"),
                          .resize = fields.contains("resize") ? take_side(fields, "resize") : 0,
                          .order = take_channels(fields),
                          .mean = take_three(fields, "mean"),
                          .std = take_three(fields, "std"),
                          .scale = parse_number<double>(take(fields, "scale", 1)[0], "scale")};
  if (!fields.empty()) {
    fail<FormatError>(where, "unknown key ", printable(fields.begin()->first), ": written by a newer version?");
  }
  if (how.resize && how.resize < std::max(how.height, how.width)) {
    fail<FormatError>(where, "resize: got ", how.resize, ", expected at least the window's ",
                      std::max(how.height, how.width));
  }
  for (const float spread : how.std) {
    if (!(spread > 0)) fail<FormatError>(where, "std: got ", spread, ", expected positive numbers");
  }
  if (!(how.scale > 0)) fail<FormatError>(where, "scale: got ", how.scale, ", expected a positive number");
  return how;
}

void fit(const Preprocessing& how, Image& image, Image& spare) {
  int64_t height = how.height, width = how.width;
  if (how.resize) {
    const int64_t shorter = std::min(image.height, image.width);
    height = how.resize * int64_t{image.height} / shorter;
    width = how.resize * int64_t{image.width} / shorter;
  }
  const Window window{margin(height, how.height), margin(width, how.width), how.height, how.width};
  if (height == image.height && width == image.width && height == how.height && width == how.width) return;
  resize(image, height, width, window, spare);
  std::swap(image, spare);
}

void preprocess(const Image& image, const Preprocessing& how, float* out) {
  if (image.height != how.height || image.width != how.width) {
    fail<UsageError>("data", "size of an image: got ", image.height, "x", image.width, ", expected the model's ",
                     how.height, "x", how.width);
  }
  const auto normalise = [&](unsigned level, size_t channel) {
    return (static_cast<float>(level * how.scale) - how.mean[channel]) / how.std[channel];
  };
  const size_t bytes = 3 * static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
  for (size_t i = 0; i < bytes; i += 3) {
    const unsigned red = image.rgb[i], green = image.rgb[i + 1], blue = image.rgb[i + 2];
    switch (how.order) {
      case Channels::gray: *out++ = normalise(gray_level(red, green, blue), 0); break;
      case Channels::rgb: *out++ = normalise(red, 0), *out++ = normalise(green, 1), *out++ = normalise(blue, 2); break;
      case Channels::bgr: *out++ = normalise(blue, 0), *out++ = normalise(green, 1), *out++ = normalise(red, 2); break;
    }
  }
}

}  // namespace parabola
