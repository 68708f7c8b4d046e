#include "data/dataset.h"

#include <algorithm>
#include <numeric>

#include "engine/core/error.h"

namespace parabola {

int32_t Dataset::label(int64_t index) const {
  PARABOLA_ASSERT(index >= 0 && index < size());
  return read_label(index);
}

void Dataset::image(int64_t index, Image& out) const {
  PARABOLA_ASSERT(index >= 0 && index < size());
  read_image(index, out);
}

namespace {

class MemoryDataset final : public Dataset {
 public:
  MemoryDataset(DatasetInfo info, int channels, std::vector<uint8_t> pixels, std::vector<uint8_t> labels)
      : Dataset(std::move(info)), grey_(channels == 1), pixels_(std::move(pixels)), labels_(std::move(labels)) {}

 private:
  int32_t read_label(int64_t index) const override { return labels_[static_cast<size_t>(index)]; }

  void read_image(int64_t index, Image& out) const override {
    out.height = height();
    out.width = width();
    const size_t area = static_cast<size_t>(height()) * static_cast<size_t>(width());
    const size_t bytes = grey_ ? area : 3 * area;
    const auto source = std::span(pixels_).subspan(static_cast<size_t>(index) * bytes, bytes);
    out.rgb.resize(3 * area);
    if (!grey_) {
      std::copy(source.begin(), source.end(), out.rgb.begin());
      return;
    }
    auto target = out.rgb.begin();
    for (const uint8_t level : source) target = std::fill_n(target, 3, level);
  }

  bool grey_;
  std::vector<uint8_t> pixels_, labels_;
};

class Subset final : public Dataset {
 public:
  Subset(DatasetPtr whole, std::vector<int64_t> indices)
      : Dataset(info_of(*whole, indices.size())), whole_(std::move(whole)), indices_(std::move(indices)) {}

 private:
  static DatasetInfo info_of(const Dataset& whole, size_t size) {
    DatasetInfo info = whole.info();
    info.size = static_cast<int64_t>(size);
    return info;
  }
  int64_t at(int64_t index) const { return indices_[static_cast<size_t>(index)]; }
  int32_t read_label(int64_t index) const override { return whole_->label(at(index)); }
  void read_image(int64_t index, Image& out) const override { whole_->image(at(index), out); }

  DatasetPtr whole_;
  std::vector<int64_t> indices_;
};

}  // namespace

DatasetPtr memory_dataset(DatasetInfo info, int channels, std::vector<uint8_t> pixels, std::vector<uint8_t> labels,
                          std::string_view source) {
  PARABOLA_ASSERT(channels == 1 || channels == 3);
  const std::string where = printable(source, 400);
  const size_t image_bytes =
      static_cast<size_t>(info.height) * static_cast<size_t>(info.width) * static_cast<size_t>(channels);
  if (info.size <= 0 || image_bytes == 0) {
    fail<FormatError>(where, "holds no pixels: got ", info.size, " images of ", info.height, "x", info.width,
                      ", expected at least one pixel");
  }
  const auto count = static_cast<size_t>(info.size);
  if (labels.size() != count) {
    fail<FormatError>(where, "images and labels disagree: got ", labels.size(), " labels, expected ", count);
  }
  if (pixels.size() != count * image_bytes) {
    fail<FormatError>(where, "wrong amount of pixels: got ", pixels.size(), " bytes, expected ", count * image_bytes);
  }
  const auto classes = info.class_names.size();
  const auto bad = std::find_if(labels.begin(), labels.end(), [&](uint8_t label) { return label >= classes; });
  if (bad != labels.end()) {
    fail<FormatError>(where, "label out of range at image ", bad - labels.begin(), ": got ", int{*bad},
                      ", expected 0 to ", static_cast<int64_t>(classes) - 1);
  }
  return std::make_shared<MemoryDataset>(std::move(info), channels, std::move(pixels), std::move(labels));
}

DatasetPtr subset(DatasetPtr dataset, int64_t begin, int64_t count) {
  if (begin < 0 || count < 0 || begin > dataset->size() || count > dataset->size() - begin) {
    fail<UsageError>("subset", "images not in ", printable(dataset->name()), ": got ", count, " from ", begin,
                     ", expected at most ", dataset->size());
  }
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), begin);
  return std::make_shared<Subset>(std::move(dataset), std::move(indices));
}

DatasetPtr subset(DatasetPtr dataset, std::span<const int64_t> indices) {
  for (const int64_t index : indices) {
    if (index < 0 || index >= dataset->size()) {
      fail<UsageError>("subset", "image not in ", printable(dataset->name()), ": got ", index, ", expected 0 to ",
                       dataset->size() - 1);
    }
  }
  return std::make_shared<Subset>(std::move(dataset), std::vector<int64_t>(indices.begin(), indices.end()));
}

}  // namespace parabola
