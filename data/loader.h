// The loader turns a data set into batches. Threads of its own read, fit, augment and preprocess the next batches while
// the model works on this one. What a batch holds depends on the options, the epoch and its number only, never on
// speed, on the number of threads or on where a run was resumed. Memory: the batches that are ready or used, and two
// images a thread.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "data/augment.h"
#include "data/batch.h"
#include "data/dataset.h"
#include "data/preprocess.h"
#include "engine/core/thread_pool.h"
#include "engine/core/upload.h"

namespace parabola {

// The defaults are those of an evaluation: every image once, in order, unchanged.
struct LoaderOptions {
  int64_t batch = 128;             // images a batch; the last batch of an epoch may be smaller
  bool shuffle = false;            // another order in each epoch
  bool drop_last = false;          // leave a smaller last batch out
  uint64_t seed = 0;               // of order and augmentation
  Augmentation augmentation = {};  // of the training images
  Preprocessing preprocessing = {};
  Device device = {};  // where batches are wanted
  int threads = 0;     // that share a batch's images; 0: as many as the engine has where they are files to be decoded,
                       // 1 where they lie in memory, since more would only disturb the engine's own
};

// The numbers 0 to count-1 in the order of one epoch: a Fisher-Yates shuffle with draws keyed by (seed, epoch).
std::vector<int64_t> shuffled_order(int64_t count, uint64_t seed, int64_t epoch);

// One epoch:     for (Batch batch : loader) { ... }
// From a place:  loader.start(epoch, first_batch); while (loader.next(batch)) { ... }
class Loader {
 public:
  // UsageError: a batch size under 1.
  Loader(DatasetPtr dataset, const LoaderOptions& options);
  Loader(const Loader&) = delete;  // the destructor stops the thread, at any time
  Loader& operator=(const Loader&) = delete;

  int64_t batches() const;                  // an epoch
  int64_t images() const;                   // an epoch; fewer than the data set's with drop_last
  int64_t epoch() const { return epoch_; }  // the one started last; -1 before the first
  const LoaderOptions& options() const { return options_; }

  // Begins an epoch at the batch with number first_batch, leaving the one under way. Starting where a run stood
  // gives the batches that it would have seen.
  void start(int64_t epoch, int64_t first_batch = 0);

  // The next batch; false at the epoch's end. Throws what reading the batch threw; of several bad images, for the
  // first. UsageError before start(). On another device than the CPU, the one after it travels there while the device
  // works on this one. With a HostBatch: takes over its memory for a coming batch, so that passing the same one again
  // allocates nothing. An epoch is read by one of the two.
  bool next(Batch& batch);
  bool next(HostBatch& batch);

  // begin() goes on with an epoch that start() began, else starts the one after epoch().
  class Iterator {
   public:
    explicit Iterator(Loader& loader) : loader_(loader) { ++*this; }
    Batch& operator*() { return batch_; }
    Iterator& operator++() {
      more_ = loader_.next(batch_);
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return !more_; }

   private:
    Loader& loader_;
    Batch batch_;
    bool more_ = false;
  };
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  struct Scratch {
    Image image, spare;
  };
  void produce(const std::stop_token& stop, int64_t epoch, int64_t first_batch);
  bool ready();  // next() would not wait
  void send();   // host_ to the device
  void fill(HostBatch& batch, std::span<const int64_t> samples, int64_t epoch);

  DatasetPtr dataset_;
  LoaderOptions options_;
  int64_t epoch_ = -1;
  bool started_ = false;  // by start(), and no loop has begun since
  HostBatch host_;        // what next(Batch&) copies from
  Upload images_, labels_, partners_;
  std::optional<Batch> sent_;  // what is on its way through these, all but its tensors

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::deque<HostBatch> ready_;
  std::vector<HostBatch> free_;  // memory of batches that were used
  bool finished_ = false;        // nothing will be added to ready_
  std::exception_ptr error_;     // once finished: what ended the thread early, null where nothing did

  ThreadPool readers_;            // of which thread_ is one
  std::vector<Scratch> scratch_;  // of each
  std::jthread thread_;           // last, so that it has stopped before the rest goes
};

}  // namespace parabola
