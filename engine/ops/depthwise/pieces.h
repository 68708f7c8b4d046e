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

// Neighbouring blocks of one image; none: empty.
struct Chunk {
  int64_t image = 0, first = 0, end = 0;
  int64_t blocks() const { return end - first; }
};

// What a thread will work on later, to be fetched meanwhile: of the pixels of a chunk the part `part` of `parts`.
struct Upcoming {
  Chunk chunk;
  int64_t part, parts;
};

// A task is a group of images times a chunk of blocks. The groups are fixed by the shape, since a group's pieces add up
// their weight gradients before they meet those of the other groups; the chunks have no influence on any result.
template <class T>
struct Cut {
  // Chunks of as many blocks as keep, of x, dx and dy, this image and the next in the second level of cache.
  explicit Cut(const ConvGeometry& g) : Cut(g, 2 * 3 * std::max(g.H * g.W, g.image_pixels()), 768 << 10) {}

  // Chunks of as many blocks as keep so many pixels of each in so many bytes of cache. Memory delivers what lies side
  // by side twice as fast as vectors some channels apart, so they are as large as that and balance allow.
  Cut(const ConvGeometry& g, int64_t pixels, int64_t cache_bytes) : images(g.N), channels(g.C) {
    // Few enough sums of weight gradients (one for each group and block) that they stay in the cache.
    constexpr int64_t wanted_sums = 128;
    blocks = parts(channels, vector_lanes<T>);
    images_in_group = std::max<int64_t>(1, parts(images, std::max<int64_t>(1, wanted_sums / blocks)));
    groups = parts(images, images_in_group);
    constexpr int64_t tasks_of_thread = 4;
    const int64_t for_balance = blocks * groups / (tasks_of_thread * thread_pool().threads());
    const int64_t in_cache = cache_bytes / std::max<int64_t>(1, pixels * vector_bytes);
    blocks_in_chunk = std::clamp<int64_t>(std::min(for_balance, in_cache), 1, blocks);
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

  // Calls body(chunk, upcoming, worker) for all chunks on all threads, image by image within a task; `upcoming` is what
  // this thread will work on next, empty where that is not known.
  template <class Body>
  void each_chunk(Body&& body) const {
    thread_pool().run(groups * chunks, [&](int64_t task, int worker) {
      const Chunk first = first_chunk(task);
      const int64_t end = std::min(images, first.image + images_in_group), next_task = ThreadPool::next_task();
      for (Chunk chunk = first; chunk.image < end; ++chunk.image) {
        const Chunk next{chunk.image + 1, chunk.first, chunk.end};
        body(chunk, next.image < end ? next : next_task >= 0 ? first_chunk(next_task) : Chunk{}, worker);
      }
    });
  }

  // Calls body(piece, upcoming, worker) for all pieces. While it works on those of a chunk a thread is told of equal
  // parts of its next chunk.
  template <class Body>
  void each_piece(Body&& body) const {
    each_chunk([&](const Chunk& chunk, const Chunk& upcoming, int worker) {
      for (int64_t block = chunk.first; block < chunk.end; ++block)
        body(Piece{chunk.image, block}, Upcoming{upcoming, block - chunk.first, chunk.blocks()}, worker);
    });
  }

 private:
  Chunk first_chunk(int64_t task) const {
    const int64_t first = task % chunks * blocks_in_chunk;
    return {task / chunks * images_in_group, first, std::min(blocks, first + blocks_in_chunk)};
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

// Fetches what is upcoming from memory while the present piece is worked on, which hides most of the memory's latency:
// the pixels of a piece lie C elements apart, too far for the processor to foresee.
template <class T>
class Ahead {
 public:
  explicit Ahead(int64_t steps) : steps_(std::max<int64_t>(1, steps)) {}
  // Of a tensor of so many pixels an image.
  void read(const TensorView& view, int64_t pixels, const Upcoming& upcoming) { add(view, pixels, upcoming, false); }
  void write(const TensorView& view, int64_t pixels, const Upcoming& upcoming) { add(view, pixels, upcoming, true); }

  // One of about `steps` equal parts.
  void step() {
    for (int i = 0; i < count_; ++i) {
      Stream& s = streams_[static_cast<size_t>(i)];
      const int64_t vectors = std::min(s.vectors, s.in_step);
      s.vectors -= vectors;
      if (s.writes)
        fetch<true>(s, vectors);
      else
        fetch<false>(s, vectors);
    }
  }

 private:
  // Runs of vectors that lie side by side: the chunk's of a pixel or, where these are all that there are, all pixels'.
  struct Stream {
    const T* at;
    int64_t vectors, in_step;          // left, and in a step
    int64_t in_run, left_in_run, gap;  // gap: elements from a run's end to the next one
    bool writes;
  };
  template <bool writes>
  static void fetch(Stream& s, int64_t vectors) {
    while (vectors > 0) {
      const int64_t run = std::min(vectors, s.left_in_run);
#pragma GCC unroll 4
      for (int64_t i = 0; i < run; ++i) __builtin_prefetch(s.at + i * vector_lanes<T>, writes, 2);
      s.at += run * vector_lanes<T>, s.left_in_run -= run, vectors -= run;
      if (s.left_in_run == 0) s.at += s.gap, s.left_in_run = s.in_run;
    }
  }
  void add(const TensorView& view, int64_t pixels, const Upcoming& upcoming, bool writes) {
    const auto [chunk, part, parts] = upcoming;
    if (!view || chunk.blocks() == 0) return;
    const int64_t channels = view.shape[3], begin = pixels * part / parts, end = pixels * (part + 1) / parts;
    const int64_t vectors = (end - begin) * chunk.blocks(), gap = channels - chunk.blocks() * vector_lanes<T>;
    const int64_t in_run = gap == 0 ? vectors : chunk.blocks();
    const T* first = view.data<T>() + (chunk.image * pixels + begin) * channels + chunk.first * vector_lanes<T>;
    streams_[static_cast<size_t>(count_++)] = {first, vectors, Cut<T>::parts(vectors, steps_), in_run, in_run,
                                               gap,   writes};
  }
  std::array<Stream, 3> streams_{};  // x, dy and dx are the most
  int count_ = 0;
  int64_t steps_;
};

}  // namespace parabola::depthwise
