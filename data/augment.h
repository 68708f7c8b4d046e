// Random changes to training images, on the 8-bit pixels, before normalisation, as torchvision does them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "data/dataset.h"
#include "engine/core/random.h"

namespace parabola {

struct Augmentation {
  bool crop = false;  // a window of the image's own size out of the image padded by 4 black pixels on each side
  bool flip = false;  // left and right exchanged, with probability one half

  bool operator==(const Augmentation&) const = default;
  std::string str() const;  // as --augment takes it: "crop,flip", "none"
};

// Reads --augment's list: some of `crop`, `flip`, separated by commas, or `none`. UsageError: anything else; rrc,
// cutout, mixup and cutmix are known but not built yet.
Augmentation parse_augmentation(std::string_view list);

// The draws of one image in one epoch: no thread, batch size or order of the images changes them.
Random augmentation_draws(uint64_t seed, int64_t epoch, int64_t image);

// Changes image as `how` says; spare is scratch memory that the caller keeps from image to image.
void augment(const Augmentation& how, Random draws, Image& image, Image& spare);

}  // namespace parabola
