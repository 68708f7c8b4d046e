// The loader: what batches hold, that nothing but options, epoch and place decides it, and that its thread behaves.
#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <numeric>
#include <thread>

#include "data/synthetic.h"
#include "engine/core/error.h"
#include "tests/support/test.h"

namespace parabola::loader_test {
namespace {

const Preprocessing tiny{.height = 4, .width = 5};

DatasetPtr tiny_images(int64_t count) { return synthetic_dataset("tiny", 0, count, 3, 4, 5); }

// Another data set with something done before each image is read.
class Hooked final : public Dataset {
 public:
  Hooked(DatasetPtr inner, std::function<void(int64_t)> before)
      : Dataset(inner->info()), inner_(std::move(inner)), before_(std::move(before)) {}

 private:
  int32_t read_label(int64_t index) const override { return inner_->label(index); }
  void read_image(int64_t index, Image& out) const override {
    before_(index);
    inner_->image(index, out);
  }
  DatasetPtr inner_;
  std::function<void(int64_t)> before_;
};

std::vector<HostBatch> batches_of(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  loader.start(epoch, first_batch);
  std::vector<HostBatch> batches;
  for (HostBatch batch; loader.next(batch);) batches.push_back(batch);
  return batches;
}

bool equal(const HostBatch& a, const HostBatch& b) {
  return a.shape == b.shape && a.images == b.images && a.labels == b.labels && a.samples == b.samples &&
         a.number == b.number;
}
bool equal(const std::vector<HostBatch>& a, const std::vector<HostBatch>& b) {
  return std::ranges::equal(a, b, [](const HostBatch& x, const HostBatch& y) { return equal(x, y); });
}

std::vector<int64_t> samples_of(const std::vector<HostBatch>& batches) {
  std::vector<int64_t> samples;
  for (const HostBatch& batch : batches) samples.insert(samples.end(), batch.samples.begin(), batch.samples.end());
  return samples;
}

const LoaderOptions training{
    .batch = 4, .shuffle = true, .seed = 7, .augmentation = {.crop = true, .flip = true}, .preprocessing = tiny};

}  // namespace

TEST_CASE("loader: an evaluation sees every image once, in order and unchanged") {
  const DatasetPtr data = tiny_images(10);
  Loader loader(data, {.batch = 4, .preprocessing = tiny});
  CHECK(loader.batches() == 3);
  CHECK(loader.images() == 10);
  const std::vector<HostBatch> batches = batches_of(loader, 0);
  REQUIRE(batches.size() == 3);
  CHECK(batches[1].shape == Shape{4, 4, 5, 3});
  CHECK(batches[2].shape == Shape{2, 4, 5, 3});
  for (const HostBatch& batch : batches) {
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      const int64_t sample = batch.samples[i];
      CHECK(sample == 4 * batch.number + static_cast<int64_t>(i));
      CHECK(batch.labels[i] == data->label(sample));
      Image image;
      data->image(sample, image);
      std::vector<float> expected(60);
      preprocess(image, tiny, expected.data());
      CHECK(std::equal(expected.begin(), expected.end(), batch.images.begin() + static_cast<std::ptrdiff_t>(60 * i)));
    }
  }
}

TEST_CASE("loader: a smaller last batch can be left out") {
  Loader loader(tiny_images(10), {.batch = 4, .drop_last = true, .preprocessing = tiny});
  CHECK(loader.batches() == 2);
  CHECK(loader.images() == 8);
  CHECK(samples_of(batches_of(loader, 0)).size() == 8);
  Loader all(tiny_images(8), {.batch = 4, .drop_last = true, .preprocessing = tiny});
  CHECK(all.batches() == 2);
  Loader none(tiny_images(3), {.batch = 4, .drop_last = true, .preprocessing = tiny});
  CHECK(batches_of(none, 0).empty());
}

TEST_CASE("loader: the order of an epoch is a permutation that seed and epoch decide") {
  const std::vector<int64_t> order = shuffled_order(1000, 1, 0);
  std::vector<int64_t> sorted = order, natural(1000);
  std::ranges::sort(sorted);
  std::iota(natural.begin(), natural.end(), int64_t{0});
  CHECK(sorted == natural);
  CHECK(order != natural);
  CHECK(order == shuffled_order(1000, 1, 0));
  CHECK(order != shuffled_order(1000, 2, 0));
  CHECK(order != shuffled_order(1000, 1, 1));
  CHECK(shuffled_order(0, 1, 0).empty());
  CHECK(shuffled_order(1, 1, 0) == std::vector<int64_t>{0});
}

TEST_CASE("loader: every order is equally likely") {
  std::map<std::vector<int64_t>, int> counts;
  for (int64_t epoch = 0; epoch < 6000; ++epoch) ++counts[shuffled_order(3, 11, epoch)];
  CHECK(counts.size() == 6);
  for (const auto& [order, count] : counts) {
    CHECK(count > 820);  // of 1,000 expected; 6 standard deviations
    CHECK(count < 1180);
  }
}

TEST_CASE("loader: shuffled epochs see every image once; neither batch size nor place changes an image") {
  const DatasetPtr data = tiny_images(21);
  Loader small(data, training);
  LoaderOptions larger = training;
  larger.batch = 21;
  Loader large(data, larger);
  const std::vector<HostBatch> batches = batches_of(small, 3);
  const HostBatch whole = batches_of(large, 3).at(0);
  CHECK(samples_of(batches) == whole.samples);
  CHECK(whole.samples == shuffled_order(21, 7, 3));
  std::vector<float> pixels;
  for (const HostBatch& batch : batches) pixels.insert(pixels.end(), batch.images.begin(), batch.images.end());
  CHECK(pixels == whole.images);
  CHECK_FALSE(equal(batches_of(small, 4), batches));
}

TEST_CASE("loader: mixed batches name both labels, the larger share first, and repeat") {
  const DatasetPtr data = tiny_images(21);
  LoaderOptions mixing = training;
  mixing.augmentation = {.mixup = true, .cutmix = true};
  LoaderOptions plain = training;
  plain.augmentation = {};
  Loader loader(data, mixing), unmixed(data, plain);
  std::vector<HostBatch> mixed, own = batches_of(unmixed, 2);
  loader.start(2);
  for (HostBatch batch; loader.next(batch);) mixed.push_back(batch);
  REQUIRE(mixed.size() == own.size());
  bool swapped = false;
  for (size_t b = 0; b < mixed.size(); ++b) {
    const HostBatch& batch = mixed[b];
    CHECK(own[b].partners.empty());
    CHECK(own[b].share == 1);
    CHECK(batch.samples == own[b].samples);
    CHECK(batch.share >= 0.5);
    CHECK(batch.share <= 1);
    std::vector<int32_t> before = own[b].labels;  // each image's neighbour
    std::rotate(before.begin(), before.end() - 1, before.end());
    const bool is_swapped = batch.labels != own[b].labels;
    CHECK(batch.labels == (is_swapped ? before : own[b].labels));
    CHECK(batch.partners == (is_swapped ? own[b].labels : before));
    swapped |= is_swapped;
  }
  CHECK(swapped);
  loader.start(2, 3);
  HostBatch again;
  REQUIRE(loader.next(again));
  CHECK(again.images == mixed[3].images);
  CHECK(again.partners == mixed[3].partners);
  Batch batch;
  loader.start(2);
  REQUIRE(loader.next(batch));
  CHECK(batch.partners.to_vector<int32_t>() == mixed[0].partners);
  CHECK(batch.share == mixed[0].share);
}

TEST_CASE("loader: a resumed epoch goes on with the same batches") {
  Loader loader(tiny_images(21), training);
  const std::vector<HostBatch> all = batches_of(loader, 5);
  REQUIRE(all.size() == 6);
  for (int64_t first = 0; first <= 6; ++first) {
    const std::vector<HostBatch> rest = batches_of(loader, 5, first);
    CHECK(equal(rest, {all.begin() + first, all.end()}));
  }
  CHECK_THROWS_AS(loader.start(5, 7), UsageError);
  CHECK_THROWS_AS(loader.start(-1), UsageError);
}

TEST_CASE("loader: the speed of reader and user changes nothing") {
  const DatasetPtr data = tiny_images(21);
  Loader quick(data, training);
  const std::vector<HostBatch> expected = batches_of(quick, 1);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  Loader slow_reader(std::make_shared<Hooked>(data, [&](int64_t) { pause(); }), training);
  CHECK(equal(batches_of(slow_reader, 1), expected));
  Loader slow_user(data, training);
  slow_user.start(1);
  std::vector<HostBatch> batches;
  for (HostBatch batch; slow_user.next(batch); pause()) batches.push_back(batch);
  CHECK(equal(batches, expected));
}

TEST_CASE("loader: an error of the reader reaches the user after the batches before it, and a new start heals") {
  std::atomic<bool> broken = true;
  const auto fail_at_9 = [&](int64_t index) {
    if (broken && index == 9) fail<FormatError>("image 9", "bad");
  };
  Loader loader(std::make_shared<Hooked>(tiny_images(20), fail_at_9), {.batch = 4, .preprocessing = tiny});
  loader.start(0);
  HostBatch batch;
  CHECK(loader.next(batch));
  CHECK(loader.next(batch));
  CHECK_THROWS_WITH_AS(loader.next(batch), "[image 9] bad", FormatError);
  CHECK_THROWS_AS(loader.next(batch), FormatError);
  broken = false;
  CHECK(batches_of(loader, 0).size() == 5);
}

TEST_CASE("loader: it can be left at any time") {
  const DatasetPtr data = tiny_images(21);
  Loader reference(data, training);
  const std::vector<HostBatch> expected = batches_of(reference, 1, 2);
  for (int taken = 0; taken <= 6; ++taken) {
    Loader left(data, training), restarted(data, training);
    for (Loader* loader : {&left, &restarted}) {
      HostBatch batch;
      loader->start(0);
      for (int i = 0; i < taken; ++i) CHECK(loader->next(batch));
    }
    CHECK(equal(batches_of(restarted, 1, 2), expected));
  }
  Loader never(data, training);
  HostBatch batch;
  CHECK_THROWS_WITH_AS(never.next(batch), doctest::Contains("before start()"), UsageError);
}

TEST_CASE("loader: the end of an epoch stays the end") {
  Loader loader(tiny_images(4), training);
  loader.start(0);
  HostBatch batch;
  CHECK(loader.next(batch));
  CHECK_FALSE(loader.next(batch));
  CHECK_FALSE(loader.next(batch));
}

TEST_CASE("loader: long epochs go round in the memory of a few batches") {
  Loader loader(tiny_images(200), {.batch = 4, .preprocessing = tiny});
  // Memory that was here once is known by room that no batch needs.
  const size_t marked = 1000;
  int fresh = 0;
  HostBatch batch;
  for (int64_t epoch = 0; epoch < 10; ++epoch) {
    loader.start(epoch);
    for (int i = 0; i < 40; ++i) {  // of 50: the epoch is left while batches are ready
      REQUIRE(loader.next(batch));
      fresh += batch.images.capacity() < marked;
      batch.images.reserve(marked);
    }
  }
  CHECK(fresh >= 1);
  CHECK(fresh <= 4);  // of 400: two that are ready, one at each end
}

TEST_CASE("loader: the number of threads changes nothing") {
  const DatasetPtr data = tiny_images(21);
  std::vector<HostBatch> expected;
  for (const int threads : {1, 2, 3, 8}) {
    LoaderOptions options = training;
    options.threads = threads;
    Loader loader(data, options);
    const std::vector<HostBatch> batches = batches_of(loader, 1);
    if (expected.empty()) expected = batches;
    CHECK(equal(batches, expected));
  }
}

TEST_CASE("loader: of several bad images the first is the error") {
  const auto fail_from_5 = [](int64_t index) {
    if (index >= 5) fail<FormatError>(concat("image ", index), "bad");
  };
  const auto data = std::make_shared<Hooked>(tiny_images(20), fail_from_5);
  for (const int threads : {1, 4}) {
    Loader loader(data, {.batch = 20, .preprocessing = tiny, .threads = threads});
    loader.start(0);
    HostBatch batch;
    CHECK_THROWS_WITH_AS(loader.next(batch), "[image 5] bad", FormatError);
  }
}

TEST_CASE("loader: images of another size are brought to the model's; no batch is too small") {
  const DatasetPtr data = tiny_images(4);
  const Preprocessing other{.height = 7, .width = 3};
  Loader loader(data, {.batch = 4, .preprocessing = other});
  const std::vector<HostBatch> batches = batches_of(loader, 0);
  CHECK(batches.at(0).shape == Shape{4, 7, 3, 3});
  Image image, spare;
  data->image(0, image);
  fit(other, image, spare);
  std::vector<float> expected(63);
  preprocess(image, other, expected.data());
  CHECK(std::equal(expected.begin(), expected.end(), batches[0].images.begin()));
  CHECK_THROWS_WITH_AS(Loader(data, {.batch = 0, .preprocessing = tiny}), doctest::Contains("--batch"), UsageError);
}

TEST_CASE("loader: batches of tensors, an epoch a loop") {
  const DatasetPtr data = tiny_images(10);
  Loader loader(data, training), reference(data, training);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<HostBatch> expected = batches_of(reference, epoch);
    size_t number = 0;
    for (Batch batch : loader) {
      REQUIRE(number < expected.size());
      CHECK(batch.images.shape() == expected[number].shape);
      CHECK(batch.images.to_vector<float>() == expected[number].images);
      CHECK(batch.labels.to_vector<int32_t>() == expected[number].labels);
      CHECK(batch.samples == expected[number].samples);
      CHECK(batch.number == static_cast<int64_t>(number));
      ++number;
    }
    CHECK(loader.epoch() == epoch);
    CHECK(number == expected.size());
  }
  loader.start(7, 2);
  for (Batch batch : loader) CHECK(batch.number == 2);
  CHECK(loader.epoch() == 7);
  for (Batch batch : loader) {
    CHECK(batch.number == 0);
    break;
  }
  CHECK(loader.epoch() == 8);
}

}  // namespace parabola::loader_test
