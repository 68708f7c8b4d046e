#include "data/loader.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace parabola {
namespace {

// One batch to go on with at once and one more for when the next takes longer.
constexpr size_t batches_ahead = 2;

std::vector<int64_t> natural_order(int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

// What lies in memory is of one size; files tell theirs when they are read.
bool are_files(const Dataset& dataset) { return dataset.height() == 0; }

}  // namespace

std::vector<int64_t> shuffled_order(int64_t count, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order = natural_order(count);
  Random random({.seed = seed, .stream = Stream::shuffle, .step = static_cast<uint64_t>(epoch)});
  for (size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[random.below(static_cast<uint32_t>(left))]);
  }
  return order;
}

Loader::Loader(DatasetPtr dataset, const LoaderOptions& options)
    : dataset_(std::move(dataset)),
      options_(options),
      images_(options.device),
      labels_(options.device),
      partners_(options.device),
      readers_(options.threads        ? options.threads
               : are_files(*dataset_) ? thread_pool().threads()
                                      : 1),
      scratch_(static_cast<size_t>(readers_.threads())) {
  if (options_.batch < 1) fail<UsageError>("--batch", "got ", options_.batch, ", expected at least 1");
  // A random draw is keyed by 32 bits of an image's number.
  PARABOLA_ASSERT(dataset_->size() <= std::numeric_limits<uint32_t>::max());
}

int64_t Loader::batches() const {
  const int64_t whole = dataset_->size() / options_.batch;
  return options_.drop_last || dataset_->size() % options_.batch == 0 ? whole : whole + 1;
}

int64_t Loader::images() const { return std::min(dataset_->size(), batches() * options_.batch); }

void Loader::start(int64_t epoch, int64_t first_batch) {
  if (epoch < 0 || first_batch < 0 || first_batch > batches()) {
    fail<UsageError>("loader", "no such place: got epoch ", epoch, " and batch ", first_batch,
                     ", expected a batch from 0 to ", batches());
  }
  thread_ = {};  // stops and joins the thread of the epoch before
  std::move(ready_.begin(), ready_.end(), std::back_inserter(free_));
  ready_.clear();
  finished_ = false;
  if (sent_) images_.finish(), labels_.finish();
  if (sent_ && options_.augmentation.mixes()) partners_.finish();
  sent_.reset();
  epoch_ = epoch;
  started_ = true;
  thread_ =
      std::jthread([this, epoch, first_batch](const std::stop_token& stop) { produce(stop, epoch, first_batch); });
}

bool Loader::next(HostBatch& batch) {
  if (epoch_ < 0) fail<UsageError>("loader", "next() before start()");
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || finished_; });
  if (!ready_.empty()) {
    std::swap(batch, ready_.front());
    free_.push_back(std::move(ready_.front()));
    ready_.pop_front();
    changed_.notify_all();
    return true;
  }
  if (error_) std::rethrow_exception(error_);
  return false;
}

bool Loader::ready() {
  const std::lock_guard lock(mutex_);
  return !ready_.empty();
}

void Loader::send() {
  Batch batch = to_batch(host_);
  images_.start(std::exchange(batch.images, {}));
  labels_.start(std::exchange(batch.labels, {}));
  if (batch.partners) partners_.start(std::exchange(batch.partners, {}));
  sent_ = std::move(batch);
}

bool Loader::next(Batch& batch) {
  if (!sent_) {
    if (!next(host_)) return false;
    send();
  }
  batch = std::move(*sent_);
  sent_.reset();
  batch.images = images_.finish();
  batch.labels = labels_.finish();
  if (options_.augmentation.mixes()) batch.partners = partners_.finish();
  if (options_.device.kind != DeviceKind::cpu && ready() && next(host_)) send();
  return true;
}

Loader::Iterator Loader::begin() {
  if (!started_) start(epoch_ + 1);
  started_ = false;
  return Iterator(*this);
}

void Loader::produce(const std::stop_token& stop, int64_t epoch, int64_t first_batch) {
  std::exception_ptr error;
  try {
    const int64_t size = dataset_->size();
    const std::vector<int64_t> order =
        options_.shuffle ? shuffled_order(size, options_.seed, epoch) : natural_order(size);
    for (int64_t number = first_batch; number < batches(); ++number) {
      HostBatch batch;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, stop, [&] { return ready_.size() < batches_ahead; });
        if (stop.stop_requested()) return;
        if (!free_.empty()) {
          batch = std::move(free_.back());
          free_.pop_back();
        }
      }
      const int64_t begin = number * options_.batch, count = std::min(options_.batch, size - begin);
      batch.number = number;
      fill(batch, std::span(order).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), epoch);
      const std::lock_guard lock(mutex_);
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  finished_ = true;
  changed_.notify_all();
}

void Loader::fill(HostBatch& batch, std::span<const int64_t> samples, int64_t epoch) {
  const Preprocessing& how = options_.preprocessing;
  batch.shape = {static_cast<int64_t>(samples.size()), how.height, how.width, how.channels()};
  batch.samples.assign(samples.begin(), samples.end());
  batch.images.resize(static_cast<size_t>(batch.shape.elements()));
  batch.labels.resize(samples.size());
  const auto image_size = static_cast<size_t>(batch.shape.product(1, 4));
  std::vector<std::exception_ptr> errors(samples.size());
  readers_.run(std::ssize(samples), [&](int64_t task, int worker) {
    const auto i = static_cast<size_t>(task);
    auto& [image, spare] = scratch_[static_cast<size_t>(worker)];
    try {
      dataset_->image(samples[i], image);
      fit(how, image, spare);
      Random draws = augmentation_draws(options_.seed, epoch, samples[i]);
      augment(options_.augmentation, draws, image, spare);
      const std::span<float> pixels = std::span(batch.images).subspan(i * image_size, image_size);
      preprocess(image, how, pixels.data());
      cut_out(options_.augmentation, draws, {how.height, how.width, how.channels()}, pixels);
      batch.labels[i] = dataset_->label(samples[i]);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  if (!options_.augmentation.mixes()) return;
  batch.share = mix(options_.augmentation, mixing_draws(options_.seed, epoch, batch.number), batch.shape, batch.images);
  batch.partners = batch.labels;
  std::rotate(batch.partners.begin(), batch.partners.end() - 1, batch.partners.end());
  if (batch.share >= 0.5) return;
  std::swap(batch.labels, batch.partners);
  batch.share = 1 - batch.share;
}

}  // namespace parabola
