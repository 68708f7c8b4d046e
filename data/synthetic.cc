#include "data/synthetic.h"

#include <array>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace parabola {
namespace {

constexpr float two_pi = 6.2831853f;
constexpr float grey = 127.5f, amplitude = 75.0f, noise = 25.0f;  // levels stay within 27 to 228

// A class's picture: red, green and blue at (x, y) are grey + amplitude cos(across x + down y + phase[channel]).
struct Wave {
  float across, down;
  std::array<float, 3> phase;
};

Wave wave_of(int label, int height, int width) {
  // Waves are drawn in step 0, the images' noise in step 1. rows, columns: periods over the image's height and width.
  Random random({.stream = Stream::data, .step = 0, .item = static_cast<uint32_t>(label)});
  const float rows = random.uniform(-3, 3), columns = random.uniform(0, 3);
  Wave wave{two_pi * columns / static_cast<float>(width), two_pi * rows / static_cast<float>(height), {}};
  for (float& phase : wave.phase) phase = random.uniform(0, two_pi);
  return wave;
}

class Synthetic final : public Dataset {
 public:
  Synthetic(DatasetInfo info, int64_t first) : Dataset(std::move(info)), first_(first) {
    for (int label = 0; label < classes(); ++label) waves_.push_back(wave_of(label, height(), width()));
  }

 private:
  int32_t read_label(int64_t index) const override { return static_cast<int32_t>((first_ + index) % classes()); }

  void read_image(int64_t index, Image& out) const override {
    const Wave& wave = waves_[static_cast<size_t>(read_label(index))];
    Random random({.stream = Stream::data, .step = 1, .item = static_cast<uint32_t>(first_ + index)});
    out.height = height();
    out.width = width();
    out.rgb.clear();
    for (int y = 0; y < height(); ++y) {
      for (int x = 0; x < width(); ++x) {
        const float angle = wave.across * static_cast<float>(x) + wave.down * static_cast<float>(y);
        for (const float phase : wave.phase) {
          const float level = grey + amplitude * std::cos(angle + phase) + random.uniform(-noise, noise);
          out.rgb.push_back(static_cast<uint8_t>(std::lround(level)));
        }
      }
    }
  }

  int64_t first_;
  std::vector<Wave> waves_;
};

}  // namespace

DatasetPtr synthetic_dataset(const char* name, int64_t first, int64_t size, int classes, int height, int width) {
  PARABOLA_ASSERT(first >= 0 && size > 0 && classes > 0 && height > 0 && width > 0);
  DatasetInfo info{.name = name, .size = size, .height = height, .width = width};
  for (int label = 0; label < classes; ++label) info.class_names.push_back(std::to_string(label));
  return std::make_shared<Synthetic>(std::move(info), first);
}

}  // namespace parabola
