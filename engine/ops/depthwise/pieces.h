// How a depthwise convolution's work is cut into pieces: one vector of channels of one image each.
#pragma once
#include <algorithm>
#include <array>

#include "engine/blas/vector.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/conv2d/geometry.h"
#include "engine/ops/depthwise/tables.h"

namespace parabola::depthwise {

struct Piece {
  int64_t image, block;  // block: the number of the vector of channels
};

// A task is a group of images times a chunk of blocks. Fixed by the shape, since a group's pieces add up their weight
// gradients before they meet those of the other groups.
template <class T>
struct Cut {
  explicit Cut(const ConvGeometry& g) : images(g.N), channels(g.C) {
    // Enough tasks to keep many threads busy, few enough sums of weight gradients (one for each group and block) that
    // they stay in the cache.
    constexpr int64_t wanted_tasks = 64, wanted_sums = 128;
    blocks = parts(channels, vector_lanes<T>);
    images_in_group = std::max<int64_t>(1, parts(images, std::max<int64_t>(1, wanted_sums / blocks)));
    groups = parts(images, images_in_group);
    blocks_in_chunk = std::max<int64_t>(1, blocks * groups / wanted_tasks);
    chunks = parts(blocks, blocks_in_chunk);
  }
  static int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

  int64_t images, channels, blocks, images_in_group, groups, blocks_in_chunk, chunks;

  int64_t first_channel(int64_t block) const { return block * vector_lanes<T>; }
  int64_t channels_of(int64_t block) const {  // fewer in the last block
    return std::min(vector_lanes<T>, channels - first_channel(block));
  }
  int64_t sum_of(Piece piece) const { return piece.image / images_in_group * blocks + piece.block; }
  bool starts_sum(Piece piece) const { return piece.image % images_in_group == 0; }

  // Calls body(piece, next, worker) for all pieces on all threads, image by image within a task, so that blocks which
  // lie side by side in memory follow one another. `next` is the task's next piece (at its end, the last one again).
  template <class Body>
  void each_piece(Body&& body) const {
    thread_pool().run(groups * chunks, [&](int64_t task, int worker) {
      const Piece first{task / chunks * images_in_group, task % chunks * blocks_in_chunk};
      const Piece end{std::min(images, first.image + images_in_group), std::min(blocks, first.block + blocks_in_chunk)};
      for (Piece piece = first; piece.image < end.image;) {
        Piece next{piece.image, piece.block + 1};
        if (next.block == end.block) next = {piece.image + 1, first.block};
        body(piece, next.image < end.image ? next : piece, worker);
        piece = next;
      }
    });
  }
};

// One vector of channels of a tensor [.., C]: element i is that of pixel (or tap) i.
template <class T>
class ChannelSlice {
 public:
  ChannelSlice() = default;
  ChannelSlice(const TensorView& view, const Cut<T>& cut, int64_t block, int64_t first_pixel = 0)
      : data_(view ? view.data<T>() + first_pixel * cut.channels + cut.first_channel(block) : nullptr),
        channels_(cut.channels),
        count_(cut.channels_of(block)) {}
  explicit operator bool() const { return data_ != nullptr; }
  bool whole() const { return count_ == vector_lanes<T>; }  // has a channel in every lane
  Vector<T> operator[](int64_t pixel) const {               // zeros in channels that there are not
    const T* from = data_ + pixel * channels_;
    if (whole()) return load_vector(from);
    Vector<T> value{};
    for (int64_t i = 0; i < count_; ++i) value[i] = from[i];
    return value;
  }
  void set(int64_t pixel, Vector<T> value) const {
    T* to = data_ + pixel * channels_;
    if (whole()) return store_vector(to, value);
    for (int64_t i = 0; i < count_; ++i) to[i] = value[i];
  }
  // The values of a group of lanes, stored at the pixels that these name (the last ones may name none), or added.
  void set_group(const Link* lanes, const Vector<T>* values, bool accumulate) const {
    if (whole() && lanes[pixel_lanes - 1].other >= 0 && !accumulate) {
#pragma GCC unroll 16
      for (int i = 0; i < pixel_lanes; ++i) store_vector(data_ + lanes[i].other * channels_, values[i]);
      return;
    }
    for (int i = 0; i < pixel_lanes && lanes[i].other >= 0; ++i)
      set(lanes[i].other, accumulate ? (*this)[lanes[i].other] + values[i] : values[i]);
  }
  T* data() const { return data_; }
  int64_t step() const { return channels_; }  // elements between pixels

 private:
  T* data_ = nullptr;
  int64_t channels_ = 0, count_ = 0;
};

// Fetches the next piece from memory while the present one is worked on, which hides most of the memory's latency: the
// pixels of a piece lie C elements apart, too far for the processor to foresee.
template <class T>
class Ahead {
 public:
  explicit Ahead(int64_t steps) : steps_(std::max<int64_t>(1, steps)) {}
  void read(const ChannelSlice<T>& slice, int64_t pixels) { add(slice, pixels, false); }
  void write(const ChannelSlice<T>& slice, int64_t pixels) { add(slice, pixels, true); }

  // One of about `steps` equal parts.
  void step() {
    for (int i = 0; i < count_; ++i) {
      Stream& s = streams_[static_cast<size_t>(i)];
      const int64_t pixels = std::min(s.pixels, s.pixels_in_step);
      s.pixels -= pixels;
      if (s.writes) {
#pragma GCC unroll 4
        for (int64_t pixel = 0; pixel < pixels; ++pixel, s.at += s.step) __builtin_prefetch(s.at, true, 2);
      } else {
#pragma GCC unroll 4
        for (int64_t pixel = 0; pixel < pixels; ++pixel, s.at += s.step) __builtin_prefetch(s.at, false, 2);
      }
    }
  }

 private:
  struct Stream {
    const T* at;
    int64_t step, pixels, pixels_in_step;
    bool writes;
  };
  void add(const ChannelSlice<T>& slice, int64_t pixels, bool writes) {
    if (slice)
      streams_[static_cast<size_t>(count_++)] = {slice.data(), slice.step(), pixels, pixels / steps_ + 1, writes};
  }
  std::array<Stream, 3> streams_{};  // x, dy and dx are the most
  int count_ = 0;
  int64_t steps_;
};

}  // namespace parabola::depthwise
