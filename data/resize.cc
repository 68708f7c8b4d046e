#include "data/resize.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace parabola {
namespace {

constexpr int bits = 22;  // of a weight: with 8 of a level and a sign they fit an int32_t

uint8_t to_level(int32_t sum) { return static_cast<uint8_t>(std::clamp((sum + (1 << (bits - 1))) >> bits, 0, 255)); }

// Which inputs make an output along one axis, and their weights.
struct Filter {
  struct Taps {
    int first, count;
    size_t weights;  // where its weights begin
  };
  std::vector<Taps> taps;  // of each output in the window
  std::vector<int32_t> weights;

  int first() const { return taps.front().first; }  // of the inputs that the window needs
  int end() const { return taps.back().first + taps.back().count; }
};

Filter triangle(int in, int64_t out, int64_t begin, int count) {
  const double step = static_cast<double>(in) / static_cast<double>(out), reach = std::max(step, 1.0);
  Filter filter;
  std::vector<double> exact;
  for (int64_t i = begin; i < begin + count; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * step;
    const int first = std::max(0, static_cast<int>(centre - reach + 0.5));
    const int end = std::min(in, static_cast<int>(centre + reach + 0.5));
    exact.clear();
    double sum = 0;
    for (int x = first; x < end; ++x) {
      exact.push_back(std::max(0.0, 1 - std::abs(x + 0.5 - centre) / reach));
      sum += exact.back();
    }
    filter.taps.push_back({first, end - first, filter.weights.size()});
    for (const double weight : exact)
      filter.weights.push_back(static_cast<int32_t>(std::lround(weight / sum * (1 << bits))));
  }
  return filter;
}

// A row of pixels, filtered along itself.
void filter_row(const Filter& filter, const uint8_t* in, uint8_t* out) {
  for (const Filter::Taps& taps : filter.taps) {
    int32_t red = 0, green = 0, blue = 0;
    const uint8_t* pixel = in + 3 * std::ptrdiff_t{taps.first};
    for (int i = 0; i < taps.count; ++i, pixel += 3) {
      const int32_t weight = filter.weights[taps.weights + static_cast<size_t>(i)];
      red += weight * pixel[0];
      green += weight * pixel[1];
      blue += weight * pixel[2];
    }
    *out++ = to_level(red), *out++ = to_level(green), *out++ = to_level(blue);
  }
}

}  // namespace

void resize(const Image& in, int64_t height, int64_t width, const Window& window, Image& out) {
  PARABOLA_ASSERT(in.height > 0 && in.width > 0 && window.height > 0 && window.width > 0);
  PARABOLA_ASSERT(window.top >= 0 && window.top + window.height <= height);
  PARABOLA_ASSERT(window.left >= 0 && window.left + window.width <= width);
  const Filter across = triangle(in.width, width, window.left, window.width),
               down = triangle(in.height, height, window.top, window.height);
  const size_t in_row = 3 * static_cast<size_t>(in.width), row = 3 * static_cast<size_t>(window.width);
  const auto first = static_cast<size_t>(down.first()), rows = static_cast<size_t>(down.end()) - first;
  std::vector<uint8_t> between(rows * row);  // resized across, not yet down
  for (size_t y = 0; y < rows; ++y) filter_row(across, &in.rgb[(first + y) * in_row], &between[y * row]);

  out.height = window.height;
  out.width = window.width;
  out.rgb.resize(static_cast<size_t>(window.height) * row);
  std::vector<int32_t> sum(row);
  for (size_t y = 0; y < down.taps.size(); ++y) {
    const Filter::Taps& taps = down.taps[y];
    std::fill(sum.begin(), sum.end(), 0);
    for (size_t i = 0; i < static_cast<size_t>(taps.count); ++i) {
      const int32_t weight = down.weights[taps.weights + i];
      const uint8_t* levels = &between[(static_cast<size_t>(taps.first) - first + i) * row];
      for (size_t x = 0; x < row; ++x) sum[x] += weight * levels[x];
    }
    std::transform(sum.begin(), sum.end(), &out.rgb[y * row], to_level);
  }
}

}  // namespace parabola
