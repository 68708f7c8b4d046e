// The shift of distribution that `demo` makes: gamma 2.2, then inversion of the brighter half, at some strength. It
// acts on each pixel alone and is far from linear: what was bright and what was dark end up alike.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace parabola {

// What each 8-bit level becomes. With v = level / 255: g = v^2.2; f = 1 - g where g > 1/2, else g; then
// (1 - strength) v + strength f, cut to [0, 1] and rounded. Strength 0 changes nothing, 1 is the shift as such, and
// more goes on in the same direction.
using Levels = std::array<uint8_t, 256>;
Levels shifted_levels(double strength);

// A grey data set in memory, image after image.
struct GreyImages {
  std::vector<uint8_t> pixels, labels;
};
GreyImages shifted(const Dataset& dataset, const Levels& levels);

// The same as a data set of its own, to be measured on before anything is written.
DatasetPtr shifted_dataset(const Dataset& dataset, const Levels& levels);

}  // namespace parabola
