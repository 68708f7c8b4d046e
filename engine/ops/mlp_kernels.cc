#include "engine/ops/mlp_tiles.h"
#include "engine/ops/scratch.h"

namespace parabola::mlp_kernels {
namespace {

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

// y [rows, K] = residual + scale ∘ y, for rows from `begin` on.
template <class T>
void finish(const Sizes& n, const Inputs<T>& in, int64_t begin, int64_t rows, T* y) {
  if (!in.scale && !in.residual) return;
  const auto each_row = [&](const auto& value) {
    for (int64_t i = 0; i < rows; ++i) {
      T* row = y + i * n.K;
      const T* residual = in.residual ? in.residual + (begin + i) * n.K : nullptr;
      PARABOLA_INDEPENDENT
      for (int64_t k = 0; k < n.K; ++k) row[k] = value(row, residual, k);
    }
  };
  if (!in.residual) return each_row([&](const T* row, const T*, int64_t k) { return in.scale[k] * row[k]; });
  if (!in.scale) return each_row([](const T* row, const T* residual, int64_t k) { return residual[k] + row[k]; });
  each_row([&](const T* row, const T* residual, int64_t k) { return residual[k] + in.scale[k] * row[k]; });
}

template <class T>
void forward_few(const Sizes& n, const Inputs<T>& in, bool again, T* u, T* h, T* y) {
  if (again) affine(n.rows, n.H, n.C, in.x, in.weight1, in.bias1, u);
  parallel_for(n.rows * n.H, 1 << 12,
               [&](int64_t begin, int64_t end) { through_gelu<T>(end - begin, u + begin, h + begin, nullptr); });
  affine(n.rows, n.K, n.H, h, in.weight2, in.bias2, y);
  finish(n, in, 0, n.rows, y);
}

}  // namespace

size_t forward_workspace(const Sizes& n, DType dtype) {
  Scratch scratch;
  dispatch_float(dtype, mlp_op.name, [&]<class T>() { ForwardScratch<T>(scratch, n, thread_pool().threads() - 1); });
  return scratch.bytes();
}

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
    if (again) tile<T>(rows, n.H, n.C, {in.x + i * n.C, n.C}, first, {u, n.H}, in.bias1);
    through_gelu<T>(rows * n.H, u, h, nullptr);
    tile<T>(rows, n.K, n.H, {h, n.H}, second, {y + i * n.K, n.K}, in.bias2);
    finish(n, in, i, rows, y + i * n.K);
  });
}

template void forward<float>(const ForwardArgs&);
template void forward<double>(const ForwardArgs&);

}  // namespace parabola::mlp_kernels
