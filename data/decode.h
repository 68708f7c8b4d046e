// Image files to pixels.
#pragma once
#include <string>

#include "data/dataset.h"

namespace parabola {

constexpr const char* image_endings = ".jpg, .jpeg, .png, .bmp";
bool is_image_name(const std::string& path);  // ends in one of these, in small or capital letters

// Reads a JPEG, PNG or BMP file (which, its content says) as 8-bit RGB: grey and palettes are expanded, alpha is
// dropped (the colours under it stay as they are), of 16 bits the upper 8 are taken. An orientation in EXIF data is not
// applied, as torchvision does not. out's memory is reused. May be called from several threads. Decoded by stb_image,
// whose JPEG differs from libjpeg's by a few levels here and there.
// UsageError: no such file. FormatError naming the file: not such an image, cut off, damaged, or over 100 million
// pixels or what they need (a file of a few bytes can ask for any number, and a small one unpack to gigabytes).
void decode_image(const std::string& path, Image& out);

}  // namespace parabola
