// Image folders: splits, classes, order, what is left out, bad images.
#include "data/image_folder.h"

#include <filesystem>
#include <fstream>

#include "data/loader.h"
#include "data/open.h"
#include "engine/core/error.h"
#include "tests/support/images.h"
#include "tests/support/test.h"

namespace parabola::image_folder_test {
namespace {

void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

// First level of each image, in order: which file it is.
std::vector<int> firsts(const Dataset& data) {
  std::vector<int> levels;
  for (int64_t i = 0; i < data.size(); ++i) {
    Image image;
    data.image(i, image);
    levels.push_back(image.rgb[0]);
  }
  return levels;
}

std::vector<int> labels(const Dataset& data) {
  std::vector<int> all;
  for (int64_t i = 0; i < data.size(); ++i) all.push_back(data.label(i));
  return all;
}

}  // namespace

TEST_CASE("image folder: splits, sorted classes, the first of each class, then the second") {
  const std::string folder = scratch_folder();
  write_image(folder + "/train/dog/b.bmp", 2, 3, 20);
  write_image(folder + "/train/dog/a.bmp", 4, 3, 10);
  write_image(folder + "/train/cat/9.BMP", 2, 2, 30);
  write_image(folder + "/train/ant/x.bmp", 1, 1, 40);
  write_image(folder + "/val/dog/z.bmp", 2, 2, 50);
  const DataSplits splits = open_data("imagefolder:" + folder);
  CHECK(splits.notes.empty());
  CHECK(splits.augment.str() == "crop,flip");
  CHECK(splits.train->name() == "imagefolder train");
  CHECK(splits.train->class_names() == std::vector<std::string>{"ant", "cat", "dog"});
  CHECK(splits.test->class_names() == splits.train->class_names());
  CHECK(labels(*splits.train) == std::vector<int>{0, 1, 2, 2});
  CHECK(firsts(*splits.train) == std::vector<int>{40, 30, 10, 20});
  CHECK(labels(*splits.test) == std::vector<int>{2});
  CHECK(firsts(*splits.test) == std::vector<int>{50});
  CHECK(splits.train->height() == 0);  // they differ
  CHECK(firsts(*open_data("imagefolder:" + folder, 2).train) == std::vector<int>{40, 30});

  write_image(folder + "/test/ant/z.bmp", 2, 2, 60);
  const DataSplits three = open_data("imagefolder:" + folder);
  CHECK(firsts(*three.test) == std::vector<int>{60});
  CHECK(three.notes == std::vector<std::string>{"test/ is the test split, val/ is not used"});
}

TEST_CASE("image folder: without splits it is both, and what is no image is left out and counted") {
  const std::string folder = scratch_folder();
  write_image(folder + "/b/1.bmp", 2, 2, 1);
  write_image(folder + "/train/1.bmp", 2, 2, 2);  // a class of trains
  write_image(folder + "/b/.hidden.bmp", 2, 2, 3);
  write_image(folder + "/.git/1.bmp", 2, 2, 4);
  write_text(folder + "/b/notes.txt", "");
  write_text(folder + "/README", "");
  const DataSplits splits = open_data("imagefolder:" + folder);
  CHECK(splits.train == splits.test);
  CHECK(splits.train->class_names() == std::vector<std::string>{"b", "train"});
  CHECK(firsts(*splits.train) == std::vector<int>{1, 2});
  CHECK(splits.notes == std::vector<std::string>{"3 files left out: hidden, or not ending in .jpg, .jpeg, .png, .bmp"});
}

TEST_CASE("image folder: what cannot be a data set is refused") {
  const std::string folder = scratch_folder();
  const auto refused = [&](const char* about) {
    CAPTURE(about);
    CHECK_THROWS_WITH_AS(read_image_folder(folder), doctest::Contains(about), UsageError);
  };
  CHECK_THROWS_WITH_AS(read_image_folder(folder + "/none"), doctest::Contains("/none] cannot be read"), UsageError);
  refused("no classes");
  write_image(folder + "/a/1.bmp", 2, 2, 1);
  std::filesystem::create_directory(folder + "/b");
  refused("/b] no images in this class");
  write_image(folder + "/b/train/1.bmp", 2, 2, 1);
  refused("/b] no images in this class");  // not searched deeper
  write_image(folder + "/train/a/1.bmp", 2, 2, 1);
  write_image(folder + "/test/c/1.bmp", 2, 2, 1);
  refused("/test] class c is not in");
}

TEST_CASE("image folder: the loader brings images to the model's size; a bad one is an error or left out") {
  const std::string folder = scratch_folder();
  write_image(folder + "/a/1.bmp", 5, 7, 10);
  write_image(folder + "/a/3.bmp", 1, 1, 30);
  write_image(folder + "/b/1.bmp", 9, 2, 50);
  const Preprocessing how{.height = 4, .width = 3, .scale = 1};
  const DatasetPtr good = open_data("imagefolder:" + folder).train;
  std::vector<HostBatch> first;
  for (const int threads : {1, 2, 5}) {
    Loader loader(good, {.batch = 2, .preprocessing = how, .threads = threads});
    loader.start(0);
    std::vector<HostBatch> batches;
    for (HostBatch batch; loader.next(batch);) batches.push_back(batch);
    REQUIRE(batches.size() == 2);
    CHECK(batches[0].shape == Shape{2, 4, 3, 3});
    CHECK(batches[0].images[0] == 10);
    CHECK(batches[1].images[0] == 30);
    if (first.empty()) first = batches;
    for (size_t i = 0; i < 2; ++i) CHECK(batches[i].images == first[i].images);
  }

  write_text(folder + "/a/2.png", "no image");
  write_text(folder + "/b/2.jpg", "");
  const DatasetPtr some = open_data("imagefolder:" + folder).train;
  Loader loader(some, {.batch = 5, .preprocessing = how, .threads = 3});
  loader.start(0);
  HostBatch batch;
  for (int again = 0; again < 3; ++again)  // of two bad ones always the first
    CHECK_THROWS_WITH_AS(loader.next(batch), doctest::Contains("/a/2.png] cannot be decoded"), FormatError);

  std::vector<std::string> bad;
  const DatasetPtr sound = sound_images(some, bad);
  CHECK(firsts(*sound) == std::vector<int>{10, 50, 30});
  CHECK(labels(*sound) == std::vector<int>{0, 1, 0});
  REQUIRE(bad.size() == 2);
  CHECK(bad[0].find("/a/2.png] cannot be decoded") != std::string::npos);
  CHECK(bad[1].find("/b/2.jpg] the file is empty") != std::string::npos);
  CHECK(sound_images(sound, bad) == sound);
  CHECK(bad.size() == 2);
}

}  // namespace parabola::image_folder_test
