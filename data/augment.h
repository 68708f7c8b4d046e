// Random changes to training images: on the 8-bit pixels, as torchvision does them (crop, rrc, flip, jitter, in this
// order), on the normalised image (cutout), and on whole batches (mixup, cutmix).
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/dataset.h"
#include "engine/core/random.h"
#include "engine/core/shape.h"

namespace parabola {

struct Augmentation {
  bool crop = false;    // a window of the image's own size out of the image padded by 4 black pixels on each side
  bool flip = false;    // left and right exchanged, with probability one half
  bool rrc = false;     // random resized crop: a window of random size and shape, enlarged to the image's own size
  bool jitter = false;  // brightness, contrast and saturation by a factor from 0.6 to 1.4 each, in random order
  bool cutout = false;  // a square of half the image's side becomes the mean colour (DeVries, Taylor, 2017)
  bool mixup = false;   // images and targets averaged with another image's (Zhang and others, 2018; alpha 0.2)
  bool cutmix = false;  // a window of another image pasted in (Yun and others, 2019; alpha 1)

  bool mixes() const { return mixup || cutmix; }
  bool operator==(const Augmentation&) const = default;
  std::string str() const;  // as --augment takes it: "crop,flip", "none"
};

struct AugmentationName {
  const char* name;
  bool Augmentation::*member;
};
inline constexpr AugmentationName augmentation_names[] = {
    {"crop", &Augmentation::crop},     {"flip", &Augmentation::flip},     {"rrc", &Augmentation::rrc},
    {"jitter", &Augmentation::jitter}, {"cutout", &Augmentation::cutout}, {"mixup", &Augmentation::mixup},
    {"cutmix", &Augmentation::cutmix}};

// The draws of one image in one epoch: no thread, batch size or order of the images changes them.
Random augmentation_draws(uint64_t seed, int64_t epoch, int64_t image);

// Changes image as `how` says; spare is scratch memory that the caller keeps from image to image. A window of rrc has
// 8% to 100% of the image's area, as in torchvision, but at least 20% where the image is smaller than 64 pixels (of
// 32x32, 8% would be 9x9), and a ratio of 3/4 to 4/3; it is enlarged bilinearly. (It never shrinks: nothing can alias.)
void augment(const Augmentation& how, Random& draws, Image& image, Image& spare);

// Cutout on a normalised image [H, W, C], in which the mean colour is 0. The square's centre lies anywhere in the
// image; what is outside is cut off. Nothing happens unless `how` asks for it.
void cut_out(const Augmentation& how, Random& draws, const Shape& shape, std::span<float> image);

// The draws of one batch in one epoch.
Random mixing_draws(uint64_t seed, int64_t epoch, int64_t batch);

// mixup or cutmix, with both the one that is drawn: mixes each image i of a batch [N, H, W, C] with image i - 1 (the
// first with the last), which is any image since batches are shuffled. Returns the share that an image has in its own
// pixels and target, the same for all.
double mix(const Augmentation& how, Random draws, const Shape& shape, std::span<float> images);

}  // namespace parabola
