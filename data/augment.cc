#include "data/augment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace parabola {
namespace {

constexpr int padding = 4;  // the CIFAR nets' recipe since He and others, "Deep residual learning", 2016, section 4.2

// out[y, x] = in[y + down, x + right], black where that lies outside of the image.
void shift(const Image& in, int down, int right, Image& out) {
  out.height = in.height;
  out.width = in.width;
  out.rgb.assign(in.rgb.size(), 0);
  const int first = std::max(0, -right), last = std::min(in.width, in.width - right);
  for (int y = std::max(0, -down); y < std::min(in.height, in.height - down) && first < last; ++y) {
    const auto source = in.rgb.begin() + 3 * (std::ptrdiff_t{y + down} * in.width + first + right);
    const auto target = out.rgb.begin() + 3 * (std::ptrdiff_t{y} * in.width + first);
    std::copy_n(source, 3 * (last - first), target);
  }
}

void mirror(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* row = image.rgb.data() + 3 * (std::ptrdiff_t{y} * image.width);
    for (int left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(row + 3 * left, row + 3 * left + 3, row + 3 * right);
    }
  }
}

// The window of a random resized crop, as torchvision's RandomResizedCrop draws it.
struct Window {
  int top, left, height, width;
};

Window resized_crop(Random& draws, int height, int width) {
  const float least_share = std::min(height, width) < 64 ? 0.2f : 0.08f;
  const double area = static_cast<double>(height) * width, log_ratio = std::log(4.0 / 3);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double share = draws.uniform(least_share, 1), ratio = std::exp(log_ratio * draws.uniform(-1, 1));
    const int w = static_cast<int>(std::lround(std::sqrt(area * share * ratio))),
              h = static_cast<int>(std::lround(std::sqrt(area * share / ratio)));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const auto offset = [&](int free) { return static_cast<int>(draws.below(static_cast<uint32_t>(free) + 1)); };
    const int top = offset(height - h), left = offset(width - w);
    return {top, left, h, w};
  }
  // Hardly ever: as much of the middle as the ratio allows.
  const int h = std::min(height, width * 4 / 3), w = std::min(width, height * 4 / 3);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

// Where along an axis an output pixel's middle falls between two pixels of the window.
struct Between {
  int first, second;
  float share;  // of the second
};

std::vector<Between> between(int from, int size, int out_size) {
  std::vector<Between> places;
  for (int i = 0; i < out_size; ++i) {
    const double middle = (i + 0.5) * size / out_size - 0.5, inside = std::clamp(middle, 0.0, size - 1.0);
    const int first = static_cast<int>(inside);
    places.push_back({from + first, from + std::min(first + 1, size - 1), static_cast<float>(inside - first)});
  }
  return places;
}

uint8_t level(float value) { return static_cast<uint8_t>(std::lround(std::clamp(value, 0.0f, 255.0f))); }

// out: the window of `in`, enlarged bilinearly to the size of `in`.
void enlarge(const Image& in, const Window& window, Image& out) {
  out.height = in.height;
  out.width = in.width;
  out.rgb.resize(in.rgb.size());
  const std::vector<Between> columns = between(window.left, window.width, in.width);
  uint8_t* target = out.rgb.data();
  for (const Between& y : between(window.top, window.height, in.height)) {
    const uint8_t *upper = in.rgb.data() + 3 * std::ptrdiff_t{y.first} * in.width,
                  *lower = in.rgb.data() + 3 * std::ptrdiff_t{y.second} * in.width;
    for (const Between& x : columns) {
      for (int channel = 0; channel < 3; ++channel) {
        const auto along = [&](const uint8_t* row) {
          const float a = row[3 * x.first + channel], b = row[3 * x.second + channel];
          return a + x.share * (b - a);
        };
        const float a = along(upper), b = along(lower);
        *target++ = level(a + y.share * (b - a));
      }
    }
  }
}

// torchvision's ColorJitter(0.4, 0.4, 0.4): each blends every pixel with something grey.
void jitter(Random& draws, Image& image) {
  std::array<int, 3> order = {0, 1, 2};  // brightness, contrast, saturation
  for (uint32_t left = 3; left > 1; --left) std::swap(order[left - 1], order[draws.below(left)]);
  const auto gray = [](const uint8_t* p) { return static_cast<float>(gray_level(p[0], p[1], p[2])); };
  for (const int kind : order) {
    const float factor = draws.uniform(0.6f, 1.4f);
    double mean = 0;
    for (size_t i = 0; kind == 1 && i < image.rgb.size(); i += 3) mean += static_cast<double>(gray(&image.rgb[i]));
    const float all = std::round(static_cast<float>(3 * mean / static_cast<double>(image.rgb.size())));
    for (size_t i = 0; i < image.rgb.size(); i += 3) {
      const float other = kind == 2 ? gray(&image.rgb[i]) : kind == 1 ? all : 0;
      for (size_t channel = 0; channel < 3; ++channel) {
        uint8_t& value = image.rgb[i + channel];
        value = level(factor * static_cast<float>(value) + (1 - factor) * other);
      }
    }
  }
}

// A draw from Beta(alpha, alpha) for alpha of at most 1 (Joehnk, 1964).
double beta(Random& draws, double alpha) {
  for (;;) {
    const auto power = [&] { return std::pow((draws.word() + 1.0) * 0x1p-32, 1 / alpha); };
    const double x = power(), y = power();
    if (x + y <= 1) return x / (x + y);
  }
}

// A window with its middle anywhere in the image; what lies outside of the image is cut off.
Window window_around(Random& draws, int64_t height, int64_t width, int64_t window_height, int64_t window_width) {
  const auto cut = [&](int64_t size, int64_t window) {
    const int64_t begin = int64_t{draws.below(static_cast<uint32_t>(size))} - window / 2;
    const int64_t from = std::max<int64_t>(0, begin), to = std::min(size, begin + window);
    return std::pair(static_cast<int>(from), static_cast<int>(to - from));
  };
  const auto [top, h] = cut(height, window_height);
  const auto [left, w] = cut(width, window_width);
  return {top, left, h, w};
}

}  // namespace

std::string Augmentation::str() const {
  std::string list;
  for (const auto& [name, member] : augmentation_names)
    if (this->*member) list += (list.empty() ? "" : ",") + std::string(name);
  return list.empty() ? "none" : list;
}

Random augmentation_draws(uint64_t seed, int64_t epoch, int64_t image) {
  return Random({.seed = seed,
                 .stream = Stream::augmentation,
                 .step = static_cast<uint64_t>(epoch),
                 .item = static_cast<uint32_t>(image)});
}

void augment(const Augmentation& how, Random& draws, Image& image, Image& spare) {
  if (how.crop) {
    const auto offset = [&] { return static_cast<int>(draws.below(2 * padding + 1)) - padding; };
    const int down = offset(), right = offset();
    shift(image, down, right, spare);
    std::swap(image, spare);
  }
  if (how.rrc) {
    enlarge(image, resized_crop(draws, image.height, image.width), spare);
    std::swap(image, spare);
  }
  if (how.flip && draws.word() >> 31) mirror(image);
  if (how.jitter) jitter(draws, image);
}

void cut_out(const Augmentation& how, Random& draws, const Shape& shape, std::span<float> image) {
  if (!how.cutout) return;
  const int64_t height = shape[0], width = shape[1], side = std::max<int64_t>(1, std::min(height, width) / 2);
  const Window hole = window_around(draws, height, width, side, side);
  for (int64_t y = hole.top; y < hole.top + hole.height; ++y)
    std::ranges::fill(image.subspan(static_cast<size_t>((y * width + hole.left) * shape[2]),
                                    static_cast<size_t>(hole.width * shape[2])),
                      0.0f);
}

// Beside the order of the images, which is item 0 of the epoch.
Random mixing_draws(uint64_t seed, int64_t epoch, int64_t batch) {
  return Random({.seed = seed,
                 .stream = Stream::shuffle,
                 .step = static_cast<uint64_t>(epoch),
                 .item = static_cast<uint32_t>(batch) + 1});
}

double mix(const Augmentation& how, Random draws, const Shape& shape, std::span<float> images) {
  const int64_t count = shape[0], height = shape[1], width = shape[2], channels = shape[3];
  if (!how.mixes() || count == 1) return 1;
  const bool pastes = how.cutmix && (!how.mixup || draws.word() >> 31);
  double own = beta(draws, pastes ? 1.0 : 0.2);
  Window window{0, 0, static_cast<int>(height), static_cast<int>(width)};
  if (pastes) {
    const auto cut = [&](int64_t size) { return static_cast<int64_t>(std::sqrt(1 - own) * static_cast<double>(size)); };
    window = window_around(draws, height, width, cut(height), cut(width));
    own = 1 - static_cast<double>(window.height) * window.width / (static_cast<double>(height) * width);
  }
  const auto kept = pastes ? 0.0f : static_cast<float>(own), taken = pastes ? 1.0f : static_cast<float>(1 - own);
  const auto size = static_cast<size_t>(height * width * channels);
  // From the last image on, so that each meets its neighbour as it was.
  const std::vector<float> last(images.end() - static_cast<std::ptrdiff_t>(size), images.end());
  for (int64_t n = count - 1; n >= 0; --n) {
    float* image = images.data() + static_cast<size_t>(n) * size;
    const float* other = n > 0 ? image - size : last.data();
    for (int64_t y = window.top; y < window.top + window.height; ++y) {
      const int64_t begin = (y * width + window.left) * channels, end = begin + window.width * channels;
      for (int64_t i = begin; i < end; ++i) image[i] = kept * image[i] + taken * other[i];
    }
  }
  return own;
}

}  // namespace parabola
