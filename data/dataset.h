// A data set as the engine's users see it: numbered 8-bit RGB images with labels. Readers (idx.h, cifar.h, synthetic.h)
// make one, subset() shows a part of one, the loader (loader.h) turns one into batches.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace parabola {

// One image: rows x columns x (red, green, blue), row-major. Reusing an Image reuses its memory.
struct Image {
  int height = 0;
  int width = 0;
  std::vector<uint8_t> rgb;
};

// Pillow's "L", ITU-R 601: leaves grey pixels as they are.
inline unsigned gray_level(unsigned red, unsigned green, unsigned blue) {
  return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
}

// What is known about a data set before any of its images is read.
struct DatasetInfo {
  std::string name;  // "cifar10 test"
  int64_t size = 0;  // images
  int height = 0;    // of every image, in pixels; 0 where images differ in size
  int width = 0;
  std::vector<std::string> class_names = {};  // label k is class_names[k]
};

// Immutable, and safe to read from several threads at once. Shared as shared_ptr<const Dataset>, so views are cheap.
class Dataset {
 public:
  virtual ~Dataset() = default;
  const DatasetInfo& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  int64_t size() const { return info_.size; }
  int height() const { return info_.height; }
  int width() const { return info_.width; }
  int classes() const { return static_cast<int>(info_.class_names.size()); }
  const std::vector<std::string>& class_names() const { return info_.class_names; }

  int32_t label(int64_t index) const;           // in [0, classes()); index in [0, size())
  void image(int64_t index, Image& out) const;  // fills out, resizing it as needed

 protected:
  explicit Dataset(DatasetInfo info) : info_(std::move(info)) {}

 private:
  virtual int32_t read_label(int64_t index) const = 0;
  virtual void read_image(int64_t index, Image& out) const = 0;
  DatasetInfo info_;
};

using DatasetPtr = std::shared_ptr<const Dataset>;

// A data set that lies in memory. pixels: size x height x width x channels bytes; channels is 3 (RGB), or 1 (grey,
// delivered as RGB with three equal channels). labels: one byte an image. FormatError naming `source` (the file the
// labels came from): no images, counts that disagree, a label that has no class.
DatasetPtr memory_dataset(DatasetInfo info, int channels, std::vector<uint8_t> pixels, std::vector<uint8_t> labels,
                          std::string_view source);

// A view of `count` images of a data set from image `begin` on; or of the images listed, in that order.
// The view's image i is its own number i. UsageError: an image that is not there.
DatasetPtr subset(DatasetPtr dataset, int64_t begin, int64_t count);
DatasetPtr subset(DatasetPtr dataset, std::span<const int64_t> indices);

}  // namespace parabola
