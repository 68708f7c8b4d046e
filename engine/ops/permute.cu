// permute on CUDA; what it computes is said in permute.h.
#include "engine/ops/permute.h"

#include "engine/cuda/warp.cuh"
#include "engine/ops/walk.cuh"

namespace parabola::permute_cuda {
namespace {

// Matrices to be transposed: rows lie `from_stride` apart in `from`, columns `to_stride` apart in `to`.
struct Matrices {
  int64_t rows, columns, from_stride, to_stride;
  DeviceWalk first_elements;
  int64_t row_tiles, column_tiles;
};

// A block takes a tile of 32 x 32 through shared memory, so that lanes run along neighbours on both sides.
template <class T>
__global__ void permute_tiles(Matrices m, const T* from, T* to, bool accumulate) {
  constexpr int pitch = warp_size + 1;  // a tile's column lies in as many memory banks as it has elements
  T* tile = shared_memory<T>();
  const int lane = lane_index();
  for (int64_t i = blockIdx.x; i < m.first_elements.elements() * m.row_tiles * m.column_tiles; i += gridDim.x) {
    const int64_t matrix = i / m.column_tiles / m.row_tiles;
    const int64_t row = i / m.column_tiles % m.row_tiles * warp_size, column = i % m.column_tiles * warp_size;
    const auto [at_from, at_to] = m.first_elements.at(matrix);
    for (int r = warp_index(); r < warp_size && row + r < m.rows; r += warps_in_block())
      if (column + lane < m.columns) tile[r * pitch + lane] = from[at_from + (row + r) * m.from_stride + column + lane];
    __syncthreads();
    for (int c = warp_index(); c < warp_size && column + c < m.columns; c += warps_in_block()) {
      if (row + lane >= m.rows) continue;
      T& target = to[at_to + (column + c) * m.to_stride + row + lane];
      const T value = tile[lane * pitch + c];
      target = accumulate ? T(Compute<T>(target) + Compute<T>(value)) : value;
    }
    __syncthreads();
  }
}

// to[b] = from[a], or +=, for all pairs of a walk along `to`. By tiles, unless the innermost axes of both sides are the
// same, or one of them is short: neighbours on one side then lie close enough on the other one.
template <class T>
void permute(DeviceStream stream, const Walk& walk, const T* from, T* to, bool accumulate) {
  constexpr int64_t shortest = warp_size / 2;
  const std::span<const Walk::Axis> axes = walk.axes();
  const auto inner_of_from = std::ranges::find(axes, 1, &Walk::Axis::a);
  const Walk::Axis &rows = axes.front(), &columns = *inner_of_from;
  if (inner_of_from == axes.begin() || rows.size < shortest || columns.size < shortest)
    return device_copy_along(stream, walk, from, to, accumulate);
  std::array<int64_t, Shape::max_rank> sizes{1, 1, 1, 1, 1, 1};
  Strides a{}, b{};
  for (size_t i = 1; i < axes.size(); ++i)
    if (axes[i].a != 1) sizes[i] = axes[i].size, a[i] = axes[i].a, b[i] = axes[i].b;
  const Walk first_elements(Shape(std::span<const int64_t>(sizes)), a, b);
  const int64_t row_tiles = (rows.size + warp_size - 1) / warp_size,
                column_tiles = (columns.size + warp_size - 1) / warp_size;
  launch(permute_tiles<T>, blocks_for(first_elements.elements() * row_tiles * column_tiles, 1), block_size,
         warp_size * (warp_size + 1) * sizeof(T), stream,
         Matrices{rows.size, columns.size, rows.a, columns.b, DeviceWalk(first_elements), row_tiles, column_tiles},
         from, to, accumulate);
}

void forward(const ForwardArgs& args) {
  dispatch_any_float(args.inputs[0].dtype, "permute", [&]<class T>() {
    const TensorView &x = args.inputs[0], &y = args.outputs[0];
    const auto& order = args.attributes.get<PermuteAttributes>().order;
    const Strides own = strides_of(x.shape);
    Strides in_x{};  // along the axes of y
    for (int axis = 0; axis < y.shape.rank(); ++axis) in_x[axis] = own[order[axis]];
    permute(args.stream, Walk(y.shape, in_x, strides_of(y.shape)), x.data<T>(), y.data<T>(), false);
  });
}

void backward(const BackwardArgs& args) {
  dispatch_any_float(args.output_gradients[0].dtype, "permute", [&]<class T>() {
    const TensorView &dy = args.output_gradients[0], &dx = args.input_gradients[0];
    const auto& order = args.attributes.get<PermuteAttributes>().order;
    const Strides own = strides_of(dy.shape);
    Strides in_dy{};  // along the axes of dx
    for (int axis = 0; axis < dy.shape.rank(); ++axis) in_dy[order[axis]] = own[axis];
    permute(args.stream, Walk(dx.shape, in_dy, strides_of(dx.shape)), dy.data<T>(), dx.data<T>(), args.accumulates(0));
  });
}

const CudaKernels registered(permute_op, {.kernels = {forward, backward}, .half_types = true});

}  // namespace
}  // namespace parabola::permute_cuda
