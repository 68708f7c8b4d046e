#include "apps/common/demo_shift.h"

#include <algorithm>
#include <cmath>

namespace parabola {

Levels shifted_levels(double strength) {
  Levels levels{};
  for (size_t level = 0; level < levels.size(); ++level) {
    const double v = static_cast<double>(level) / 255, g = std::pow(v, 2.2), f = g > 0.5 ? 1 - g : g;
    const double blended = std::clamp((1 - strength) * v + strength * f, 0.0, 1.0);
    levels[level] = static_cast<uint8_t>(std::lround(255 * blended));
  }
  return levels;
}

GreyImages shifted(const Dataset& dataset, const Levels& levels) {
  GreyImages out;
  Image image;
  out.labels.reserve(static_cast<size_t>(dataset.size()));
  out.pixels.reserve(static_cast<size_t>(dataset.size() * dataset.height() * dataset.width()));
  for (int64_t i = 0; i < dataset.size(); ++i) {
    dataset.image(i, image);  // grey as RGB: three equal values a pixel
    for (size_t k = 0; k < image.rgb.size(); k += 3) out.pixels.push_back(levels[image.rgb[k]]);
    out.labels.push_back(static_cast<uint8_t>(dataset.label(i)));
  }
  return out;
}

DatasetPtr shifted_dataset(const Dataset& dataset, const Levels& levels) {
  GreyImages images = shifted(dataset, levels);
  return memory_dataset(dataset.info(), 1, std::move(images.pixels), std::move(images.labels), dataset.name());
}

}  // namespace parabola
