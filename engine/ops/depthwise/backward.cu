// Backward of the depthwise family on CUDA; backward.cc is the CPU's. It keeps x only: some images at a time, a_j and
// b_j are computed again, and what they make of the output's gradient is all that comes to lie in memory, for dx.
#include "engine/ops/column_sums.cuh"
#include "engine/ops/depthwise/cuda.h"
#include "engine/ops/depthwise/filter_gradients.cuh"
#include "engine/ops/depthwise/input_gradient.cuh"

namespace parabola::depthwise {
namespace {

// How many bytes of planes there may be at a time: 32 MiB on a chip, so that they stay in its L2 cache. No result
// depends on it.
constexpr int64_t most_plane_bytes = most_blocks * 1024;

// The sums of all tiles are added up in so many parts, each of as many tiles. Fixed by the shape, so that the order is.
int64_t part_count(int64_t tiles, int64_t groups) {
  const int64_t wanted = std::max<int64_t>(1, 1024 / groups);  // enough blocks to keep a chip busy
  const int64_t tiles_in_part = std::max<int64_t>(1, (tiles + wanted - 1) / wanted);
  return (tiles + tiles_in_part - 1) / tiles_in_part;
}

// The parts' sums become the gradients.
template <class T>
struct PartSums {
  const T* partials;
  int64_t columns;
  __device__ void add(int64_t part, int64_t column, T (&sums)[1]) const {
    sums[0] += partials[part * columns + column];
  }
};
template <class T>
struct FilterGradients {
  struct Input {
    T* gradient;
    bool accumulate;
    int64_t begin, end;  // in the sums
  } inputs[5];
  __device__ void set(int64_t i, double sum) const {
    for (const Input& input : inputs) {
      if (!input.gradient || i < input.begin || i >= input.end) continue;
      T& to = input.gradient[i - input.begin];
      to = input.accumulate ? to + static_cast<T>(sum) : static_cast<T>(sum);
    }
  }
};

template <class T>
class Backward {
 public:
  Backward(const Problem& problem, uint64_t wanted, Scratch scratch)
      : layer_(problem), wanted_(wanted), tiling_{layer_.C, layer_.Ho, layer_.Wo} {
    const auto window = [&](int row, int column, int rows) { return layer_.inputs(row, column, rows); };
    fits_ = tiling_.fit([&] { return shared_bytes(tiling_.largest(window)); });
    shared_ = shared_bytes(fits_ ? tiling_.largest(window) : 0);
    tiles_ = layer_.N * tiling_.tiles_in_image();
    parts_ = part_count(tiles_, tiling_.groups());
    const int64_t filters = layer_.rank * layer_.factors.taps();
    const int64_t counts[5] = {0, layer_.linear.taps(), 1, filters, filters};
    for (int i = 0; i < 5; ++i) {
      first_[i] = i != input_x && wants(i) ? sums_ : -1;
      if (first_[i] >= 0) sums_ += counts[i];
    }
    partials_ = scratch.take<T>(parts_ * sums_ * layer_.C);
    column_sums_ = scratch.take<std::byte>(static_cast<int64_t>(part_sums().template workspace<T>(1)));
    const size_t totals = static_cast<size_t>(sums_) * warp_size * sizeof(T);
    totals_in_shared_ = shared_ + totals <= most_shared;
    if (totals_in_shared_) shared_ += totals;
    const int64_t image = 2 * layer_.rank * layer_.pixels() * layer_.C;  // of planes
    const int64_t fitting = most_plane_bytes / std::max<int64_t>(1, image * static_cast<int64_t>(sizeof(T)));
    images_at_once_ = std::max<int64_t>(1, has_planes() ? std::min(layer_.N, fitting) : layer_.N);
    planes_ = scratch.take<T>(has_planes() ? images_at_once_ * image : 0);
    workspace_ = scratch.bytes();
  }
  size_t workspace() const { return workspace_; }

  void run(const BackwardArgs& args) {
    for (int64_t first = 0; first < layer_.N; first += images_at_once_) {
      const int64_t images = std::min(images_at_once_, layer_.N - first);
      if (sums_ > 0 || has_planes()) find_filter_gradients(args, first, images);
      if (wants(input_x)) find_input_gradient(args, first, images);
    }
    if (sums_ == 0) return;
    FilterGradients<T> gradients{};
    for (size_t i = 0; i < args.input_gradients.size(); ++i) {
      if (first_[i] < 0) continue;
      const TensorView& to = args.input_gradients[i];
      gradients.inputs[i] = {to.data<T>(), args.accumulates(static_cast<int>(i)), first_[i] * layer_.C,
                             first_[i] * layer_.C + to.shape.elements()};
    }
    device_column_sums<1, T>(args.stream, part_sums(), column_sums_, PartSums<T>{partials_, sums_ * layer_.C},
                             gradients);
  }

 private:
  bool wants(int input) const { return wanted_ >> input & 1; }
  bool has_planes() const { return wants(input_x) && layer_.rank > 0; }
  ColumnParts part_sums() const { return {parts_, sums_ * layer_.C}; }
  int warps() const {  // as many rows of a tile for each
    const int rounds = (tiling_.tile_rows + 7) / 8;
    return (tiling_.tile_rows + rounds - 1) / rounds;
  }
  size_t shared_bytes(int64_t tile_pixels) const {
    const int64_t planes = int64_t{layer_.factors ? 2 : 1} * tiling_.tile_rows * run_pixels;
    return static_cast<size_t>((planes + warps() * taps_at_once + tile_pixels) * warp_size) * sizeof(T);
  }

  void find_filter_gradients(const BackwardArgs& args, int64_t first, int64_t images) const {
    const auto from_image = [&](const T* data, int64_t pixels) {
      return data ? data + first * pixels * layer_.C : data;
    };
    FilterGradientData<T> data{.x = from_image(data_of<T>(args.inputs, input_x), int64_t{layer_.H} * layer_.W),
                               .dy = from_image(data_of<T>(args.output_gradients, 0), layer_.pixels()),
                               .a = data_of<T>(args.inputs, input_a),
                               .b = data_of<T>(args.inputs, input_b),
                               .kept = {from_image(data_of<T>(args.auxiliary, 0), layer_.pixels()),
                                        from_image(data_of<T>(args.auxiliary, 1), layer_.pixels())},
                               .planes = has_planes() ? planes_ : nullptr,
                               .factors = has_planes() || wants(input_a) || wants(input_b),
                               .partials = partials_,
                               .totals_in_shared = totals_in_shared_,
                               .sums = sums_,
                               .parts = parts_,
                               .images = images,
                               .tiles_before = first * tiling_.tiles_in_image()};
    std::copy_n(first_, 5, data.first);
    const dim3 blocks = blocks_for(parts_ * tiling_.groups(), 1);
    if (fits_)
      launch(depthwise_filter_gradients<T, SharedTile<T>>, blocks, warps() * warp_size, shared_, args.stream, layer_,
             tiling_, data);
    else
      launch(depthwise_filter_gradients<T, Image<T>>, blocks, warps() * warp_size, shared_, args.stream, layer_,
             tiling_, data);
  }

  void find_input_gradient(const BackwardArgs& args, int64_t first, int64_t images) const {
    const InputGradientData<T> data{
        .dy = args.output_gradients[0].data<T>() + first * layer_.pixels() * layer_.C,
        .planes = planes_,
        .weight = data_of<T>(args.inputs, input_weight),
        .a = data_of<T>(args.inputs, input_a),
        .b = data_of<T>(args.inputs, input_b),
        .dx = args.input_gradients[input_x].data<T>() + first * layer_.H * layer_.W * layer_.C,
        .accumulate = args.accumulates(input_x),
        .images = images};
    add_input_gradient(layer_, data, args.stream);
  }

  Layer layer_;
  uint64_t wanted_;
  Tiling tiling_;
  bool fits_ = false, totals_in_shared_ = false;
  size_t shared_ = 0, workspace_ = 0;
  int64_t tiles_ = 0, parts_ = 0, sums_ = 0, first_[5] = {}, images_at_once_ = 1;
  T *partials_ = nullptr, *planes_ = nullptr;
  std::byte* column_sums_ = nullptr;
};

}  // namespace

template <class T>
size_t device_backward_workspace(const Problem& problem, uint64_t gradient_mask) {
  return Backward<T>(problem, gradient_mask, Scratch()).workspace();
}
template size_t device_backward_workspace<float>(const Problem&, uint64_t);
template size_t device_backward_workspace<double>(const Problem&, uint64_t);

template <class T>
void device_backward(const Problem& problem, const BackwardArgs& args) {
  uint64_t wanted = 0;
  for (size_t i = 0; i < args.input_gradients.size(); ++i)
    if (args.input_gradients[i]) wanted |= uint64_t{1} << i;
  Backward<T>(problem, wanted, Scratch(args.workspace)).run(args);
}
template void device_backward<float>(const Problem&, const BackwardArgs&);
template void device_backward<double>(const Problem&, const BackwardArgs&);

}  // namespace parabola::depthwise
