#include "data/image_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "data/decode.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "engine/io/input_file.h"

namespace parabola {
namespace {
namespace fs = std::filesystem;

using Names = std::vector<std::string>;
using Classes = std::map<std::string, Names>;  // files of each class, all sorted

bool hidden(const std::string& name) { return name.starts_with('.'); }

// Names in a folder, sorted; those of folders or those of all else.
Names list(const std::string& folder, bool folders) {
  Names names;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    if (entries->is_directory(ignored) == folders) names.push_back(entries->path().filename().string());
  }
  if (error) fail<UsageError>(printable_path(folder), "cannot be read: ", error.message(), ", expected a folder");
  std::sort(names.begin(), names.end());
  return names;
}

// The classes of one split. Files that are no images are added to `left_out`.
Classes read_classes(const std::string& folder, int64_t& left_out) {
  Classes classes;
  left_out += std::ssize(list(folder, false));
  for (const std::string& name : list(folder, true)) {
    if (hidden(name)) continue;
    const std::string path = concat(folder, "/", name);
    Names files;
    for (std::string& file : list(path, false)) {
      if (hidden(file) || !is_image_name(file)) {
        ++left_out;
      } else {
        files.push_back(std::move(file));
      }
    }
    if (files.empty())
      fail<UsageError>(printable_path(path), "no images in this class: expected files ending in ", image_endings);
    classes.emplace(name, std::move(files));
  }
  if (classes.empty()) fail<UsageError>(printable_path(folder), "no classes: expected a folder of images for each");
  return classes;
}

class FolderDataset final : public Dataset {
 public:
  // Labels are places in class_names, which has all names in `classes`.
  FolderDataset(const std::string& name, std::string folder, const Classes& classes, Names class_names)
      : Dataset(info_of(name, classes, std::move(class_names))), folder_(std::move(folder)) {
    for (size_t place = 0; std::ssize(files_) < size(); ++place) {
      for (const auto& [class_name, files] : classes) {
        if (place >= files.size()) continue;
        const auto label = std::lower_bound(this->class_names().begin(), this->class_names().end(), class_name);
        files_.emplace_back(static_cast<int32_t>(label - this->class_names().begin()), files[place]);
      }
    }
  }

 private:
  static DatasetInfo info_of(const std::string& name, const Classes& classes, Names class_names) {
    int64_t size = 0;
    for (const auto& [class_name, files] : classes) size += std::ssize(files);
    return {.name = name, .size = size, .class_names = std::move(class_names)};
  }
  int32_t read_label(int64_t index) const override { return files_[static_cast<size_t>(index)].first; }
  void read_image(int64_t index, Image& out) const override {
    const auto& [label, file] = files_[static_cast<size_t>(index)];
    decode_image(concat(folder_, "/", class_names()[static_cast<size_t>(label)], "/", file), out);
  }

  std::string folder_;
  std::vector<std::pair<int32_t, std::string>> files_;  // label, name in its class's folder
};

}  // namespace

ImageFolder read_image_folder(const std::string& folder, const std::string& name) {
  const Names parts = list(folder, true);
  const auto has = [&](const char* part) { return std::binary_search(parts.begin(), parts.end(), part); };
  const bool split = has("train") && (has("test") || has("val"));
  const std::string train_folder = split ? folder + "/train" : folder,
                    test_folder = split ? folder + (has("test") ? "/test" : "/val") : folder;
  ImageFolder result;
  if (split && has("test") && has("val")) result.notes.push_back("test/ is the test split, val/ is not used");

  int64_t left_out = 0;
  const Classes train = read_classes(train_folder, left_out);
  const Classes test = split ? read_classes(test_folder, left_out) : Classes();
  Names class_names;
  for (const auto& [class_name, files] : train) class_names.push_back(class_name);
  for (const auto& [class_name, files] : test) {
    if (!train.contains(class_name))
      fail<UsageError>(printable_path(test_folder), "class ", printable(class_name), " is not in ",
                       printable_path(train_folder), ", expected none but its classes");
  }
  if (left_out > 0) {
    result.notes.push_back(
        concat(left_out, left_out == 1 ? " file" : " files", " left out: hidden, or not ending in ", image_endings));
  }
  const auto dataset = [&](const char* part, const std::string& where, const Classes& classes) {
    return std::make_shared<FolderDataset>(name + part, where, classes, class_names);
  };
  result.train = dataset(split ? " train" : "", train_folder, train);
  result.test = split ? dataset(" test", test_folder, test) : result.train;
  return result;
}

DatasetPtr sound_images(const DatasetPtr& dataset, std::vector<std::string>& bad) {
  std::vector<std::string> wrong(static_cast<size_t>(dataset->size()));
  std::vector<Image> images(static_cast<size_t>(thread_pool().threads()));
  thread_pool().run(dataset->size(), [&](int64_t index, int worker) {
    try {
      dataset->image(index, images[static_cast<size_t>(worker)]);
    } catch (const FormatError& error) {
      wrong[static_cast<size_t>(index)] = error.what();
    } catch (const UsageError& error) {  // a file that may not be read
      wrong[static_cast<size_t>(index)] = error.what();
    }
  });
  std::vector<int64_t> sound;
  for (int64_t index = 0; index < dataset->size(); ++index) {
    std::string& text = wrong[static_cast<size_t>(index)];
    if (text.empty()) {
      sound.push_back(index);
    } else {
      bad.push_back(std::move(text));
    }
  }
  if (sound.empty()) fail<UsageError>(printable(dataset->name()), "no image can be read: ", bad.back());
  return std::ssize(sound) == dataset->size() ? dataset : subset(dataset, sound);
}

}  // namespace parabola
