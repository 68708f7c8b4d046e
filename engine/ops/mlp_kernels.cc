#include "engine/ops/mlp_kernels.h"

#include "engine/blas/gemm.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/bias.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/normal_distribution.h"
#include "engine/ops/scratch.h"

namespace parabola::mlp_kernels {
namespace {

constexpr int64_t most_rows = 256;  // of a tile

// Tiles of rows, of which the hidden values, 256 KiB of floats where H is at most 1365, and their gradients stay in the
// second level of cache. A tile's size decides no bits, so it may follow the number of threads.
Tiles tiles_of(const Sizes& n, int64_t rows) {
  int64_t size = std::clamp<int64_t>((int64_t{1} << 16) / std::max<int64_t>(1, n.H), 48, most_rows);
  while (size > 16 && rows < 4 * thread_pool().threads() * size) size /= 2;
  return {rows, size};
}

// Rows whose hidden values and gradients backward holds at a time, for the weights' gradients: 4 MiB of floats each
// where H is at most 4096, which stay in the last level of cache. They decide how these gradients are added up, and
// follow from H alone.
int64_t chunk_rows(const Sizes& n) {
  return std::max<int64_t>(1, (int64_t{1} << 20) / std::max<int64_t>(1, n.H) / most_rows) * most_rows;
}

// C [rows, columns] = or += A B, A's rows contiguous.
template <class T>
void tile(int64_t rows, int64_t columns, int64_t depth, const T* a, const Panels<T>& b, T* c, const T* bias,
          bool accumulate = false) {
  int64_t starts[most_rows];
  for (int64_t i = 0; i < rows; ++i) starts[i] = i * depth;
  tile_product(rows, columns, Patches<T>{a, starts, {1, 1}, {0, 0}, depth}, b, c, columns, accumulate, bias);
}

// Too few rows for tiles of whole ones: linear's tiles leave the threads more to share.
bool few(const Sizes& n) { return n.rows < 512; }

// The matrices as the products read them, and of every worker a tile of hidden values; or, of few rows, all of these.
template <class T>
struct ForwardScratch {
  T *weight1, *weight2, *hidden;
  ForwardScratch(Scratch& scratch, const Sizes& n, int worker = 0) {
    weight1 = scratch.take<T>(few(n) ? 0 : panel_elements(n.H, n.C));
    weight2 = scratch.take<T>(few(n) ? 0 : panel_elements(n.K, n.H));
    const int64_t rows = few(n) ? n.rows : tiles_of(n, n.rows).size;
    for (int i = 0; i <= (few(n) ? 0 : worker); ++i) hidden = scratch.take<T>(rows * n.H);
  }
};

// The matrices; a chunk's hidden values and their gradients; room for the sums.
template <class T>
struct BackwardScratch {
  T *weight1, *back1, *back2, *hidden, *gradients, *sums;
  BackwardScratch(Scratch& scratch, const Sizes& n, int variant, const Wanted& wanted) {
    const int64_t rows = std::min(chunk_rows(n), n.rows), last = n.rows % chunk_rows(n);
    const bool again = wanted.recomputes(variant);
    weight1 = scratch.take<T>(again ? panel_elements(n.H, n.C) : 0);
    back1 = scratch.take<T>(wanted.x ? panel_elements(n.C, n.H) : 0);
    back2 = scratch.take<T>(wanted.hidden ? panel_elements(n.H, n.K) : 0);
    hidden = scratch.take<T>(wanted.weight2 || again ? rows * n.H : 0);
    gradients = scratch.take<T>(wanted.hidden ? rows * n.H : 0);
    int64_t most = 0;
    if (wanted.weight1) most = std::max(most, gemm_workspace(n.H, n.C, rows));
    if (wanted.weight2) most = std::max(most, gemm_workspace(n.K, n.H, rows));
    for (const int64_t part : {rows, last})  // fewer rows may be cut into more blocks
      if (wanted.bias1) most = std::max(most, bias_gradient_workspace(part, n.H));
    if (wanted.bias2) most = std::max(most, bias_gradient_workspace(n.rows, n.K));
    sums = scratch.take<T>(most);
  }
};

// From u, the hidden values before gelu: h = gelu(u), where wanted, and in place of h's gradient u's, where there is
// one. h may be u itself.
template <class T>
void through_gelu(int64_t count, const T* u, T* h, T* gradient) {
  if (gradient && h) {
    PARABOLA_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
      const T x = u[i];
      const Normal<T> n = normal(x);
      gradient[i] = gradient[i] * std::fma(x, n.density, n.distribution);
      h[i] = x * n.distribution;
    }
  } else if (gradient) {
    PARABOLA_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
      const Normal<T> n = normal(u[i]);
      gradient[i] = gradient[i] * std::fma(u[i], n.density, n.distribution);
    }
  } else {
    PARABOLA_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) h[i] = u[i] * normal(u[i]).distribution;
  }
}

}  // namespace

size_t forward_workspace(const Sizes& n, DType dtype, int) {
  Scratch scratch;
  dispatch_float(dtype, mlp_op.name, [&]<class T>() { ForwardScratch<T>(scratch, n, thread_pool().threads() - 1); });
  return scratch.bytes();
}

size_t backward_workspace(const Sizes& n, DType dtype, int variant, const Wanted& wanted) {
  Scratch scratch;
  dispatch_float(dtype, mlp_op.name, [&]<class T>() { BackwardScratch<T>(scratch, n, variant, wanted); });
  return scratch.bytes();
}

namespace {

// y = x weightᵀ + bias for few rows, in linear's tiles.
template <class T>
void affine(int64_t rows, int64_t outputs, int64_t inputs, const T* x, const T* weight, const T* bias, T* y) {
  const ProductTiles tiles = product_tiles(rows, outputs);
  thread_pool().run(tiles.number(), [&](int64_t task, int) {
    const auto [i, j, height, width] = tiles.at(task);
    tile_product<T>(height, width, inputs, {x + i * inputs, inputs}, {weight + j * inputs, inputs, true},
                    y + i * outputs + j, outputs, false, bias ? bias + j : nullptr);
  });
}

template <class T>
void forward_few(const Sizes& n, const Inputs<T>& in, bool again, T* u, T* h, T* y) {
  if (again) affine(n.rows, n.H, n.C, in.x, in.weight1, in.bias1, u);
  parallel_for(n.rows * n.H, 1 << 12,
               [&](int64_t begin, int64_t end) { through_gelu<T>(end - begin, u + begin, h + begin, nullptr); });
  affine(n.rows, n.K, n.H, h, in.weight2, in.bias2, y);
}

}  // namespace

template <class T>
void forward(const ForwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  Scratch whole(args.workspace);
  const ForwardScratch<T> shared(whole, n);
  T *kept = args.variant == 1 ? args.auxiliary[0].data<T>() : nullptr, *y = args.outputs[0].data<T>();
  const bool again = !(kept && args.auxiliary_ready);  // in a replay u may be there
  if (few(n)) return forward_few<T>(n, in, again, kept ? kept : shared.hidden, shared.hidden, y);
  Panels<T> first{};
  if (again) first = pack_panels(n.H, n.C, Factor<T>{in.weight1, n.C, true}, shared.weight1);
  const Panels<T> second = pack_panels(n.K, n.H, Factor<T>{in.weight2, n.H, true}, shared.weight2);
  const Tiles tiles = tiles_of(n, n.rows);
  thread_pool().run(tiles.number(), [&](int64_t task, int worker) {
    const int64_t i = tiles.begin(task), rows = tiles.length(task);
    Scratch scratch(args.workspace);
    T *h = ForwardScratch<T>(scratch, n, worker).hidden, *u = kept ? kept + i * n.H : h;
    if (again) tile(rows, n.H, n.C, in.x + i * n.C, first, u, in.bias1);
    through_gelu<T>(rows * n.H, u, h, nullptr);
    tile(rows, n.K, n.H, h, second, y + i * n.K, in.bias2);
  });
}

template <class T>
void backward(const BackwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  const Wanted wanted = wanted_of(args);
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const BackwardScratch<T> own(scratch, n, args.variant, wanted);
  Panels<T> first{}, back1{}, back2{};
  const bool again = wanted.recomputes(args.variant);
  if (again) first = pack_panels(n.H, n.C, Factor<T>{in.weight1, n.C, true}, own.weight1);
  if (wanted.x) back1 = pack_panels(n.C, n.H, Factor<T>{in.weight1, n.C}, own.back1);
  if (wanted.hidden) back2 = pack_panels(n.H, n.K, Factor<T>{in.weight2, n.H}, own.back2);
  for (int64_t begin = 0; wanted.any() && (begin == 0 || begin < n.rows); begin += chunk_rows(n)) {
    const int64_t height = std::min(chunk_rows(n), n.rows - begin);
    const T *x = in.x ? in.x + begin * n.C : nullptr, *dy_rows = dy + begin * n.K;
    const Tiles tiles = tiles_of(n, height);
    thread_pool().run(tiles.number(), [&](int64_t task, int) {
      const int64_t i = tiles.begin(task), rows = tiles.length(task), at = i * n.H;
      T *h = own.hidden + at, *du = wanted.hidden ? own.gradients + at : nullptr;
      const T* u = args.variant == 1 ? args.auxiliary[0].data<T>() + begin * n.H + at : h;
      if (again) tile(rows, n.H, n.C, x + i * n.C, first, h, in.bias1);
      if (du) tile<T>(rows, n.H, n.K, dy_rows + i * n.K, back2, du, nullptr);
      through_gelu<T>(rows * n.H, u, wanted.weight2 ? h : nullptr, du);
      if (wanted.x)
        tile<T>(rows, n.C, n.H, du, back1, gradient(input_x) + (begin + i) * n.C, nullptr, args.accumulates(input_x));
    });
    const auto adds = [&](int i) { return begin > 0 || args.accumulates(i); };
    if (wanted.weight2)
      gemm(n.K, n.H, height, {dy_rows, n.K, true}, {own.hidden, n.H}, gradient(input_weight2), adds(input_weight2),
           own.sums);
    if (wanted.weight1)
      gemm(n.H, n.C, height, {own.gradients, n.H, true}, {x, n.C}, gradient(input_weight1), adds(input_weight1),
           own.sums);
    if (wanted.bias1) bias_gradient(own.gradients, height, n.H, gradient(input_bias1), adds(input_bias1), own.sums);
  }
  if (wanted.bias2) bias_gradient(dy, n.rows, n.K, gradient(input_bias2), args.accumulates(input_bias2), own.sums);
}

template void forward<float>(const ForwardArgs&);
template void forward<double>(const ForwardArgs&);
template void backward<float>(const BackwardArgs&);
template void backward<double>(const BackwardArgs&);

}  // namespace parabola::mlp_kernels
