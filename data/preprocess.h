// From 8-bit pixels to what a network was trained on. Each model of the registry names its preprocessing, and a weights
// file keeps it in its metadata, so that nobody has to guess means, spreads or channel order.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "data/dataset.h"

namespace parabola {

struct Preprocessing {
  enum class Channels : uint8_t { rgb, bgr, gray };

  int height = 32;  // the image size that the network takes, in pixels
  int width = 32;
  int resize = 0;  // length of the shorter side before the centre is cut out; 0: no cut, the whole image is resized
  Channels order = Channels::rgb;         // the network's channels, in order
  std::array<float, 3> mean = {0, 0, 0};  // of each of the network's channels, after scaling; gray uses the first
  std::array<float, 3> std = {1, 1, 1};
  double scale = 1.0 / 255;  // double, so that level * scale rounds to the float that level / 255 is

  int channels() const { return order == Channels::gray ? 1 : 3; }
  bool operator==(const Preprocessing&) const = default;

  // The value of the weights file's metadata key `preprocessing`, one line of JSON, exact:
  //   {"height":32,"width":32,"channels":"rgb","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"scale":0.00392...}
  // and "resize":256 behind the width where there is one.
  std::string str() const;
  // Reads what str() writes. FormatError: not JSON; a key that is missing or unknown (what a newer version says must
  // not be ignored); a value that cannot be (size under 1, window larger than resize, std not positive, not finite).
  static Preprocessing parse(std::string_view json);
};

// Brings an image to the size that the network takes, by resize.h: its shorter side to how.resize and then the window
// in the middle, as torchvision's Resize and CenterCrop (an odd margin's extra pixel goes to the even side); or all of
// it, whatever its proportions. spare is scratch memory that the caller keeps from image to image.
void fit(const Preprocessing& how, Image& image, Image& spare);

// out[y, x, c] = (pixel[y, x, order[c]] * scale - mean[c]) / std[c], in float32: torchvision's ToTensor and Normalize,
// as NHWC. Gray is Pillow's "L", (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R 601), which leaves grey pixels as
// they are. out: height * width * channels() floats. UsageError: the image has another size than the network takes.
void preprocess(const Image& image, const Preprocessing& how, float* out);

}  // namespace parabola
