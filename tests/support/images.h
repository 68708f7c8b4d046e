// Image files for tests.
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace parabola {

// A BMP of 24 bits a pixel, its folder made where need be: grey of the given level.
inline void write_image(const std::string& path, int height, int width, int level) {
  const int padding = (4 - 3 * width % 4) % 4, size = 54 + height * (3 * width + padding);
  std::string bytes = "BM";
  const auto number = [&](int value, int length) {
    for (int i = 0; i < length; ++i) bytes += static_cast<char>(value >> 8 * i);
  };
  for (const int value : {size, 0, 54, 40, width, height}) number(value, 4);
  number(1, 2), number(24, 2);
  for (int i = 0; i < 6; ++i) number(0, 4);
  for (int y = 0; y < height; ++y)
    bytes += std::string(static_cast<size_t>(3 * width), static_cast<char>(level)) +
             std::string(static_cast<size_t>(padding), '\0');
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace parabola
