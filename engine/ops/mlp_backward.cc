#include "engine/ops/bias.h"
#include "engine/ops/lanes.h"
#include "engine/ops/mlp_tiles.h"
#include "engine/ops/scratch.h"

namespace parabola::mlp_kernels {
namespace {

// Rows whose hidden values and gradients backward holds at a time, for the weights' gradients: 2 MiB of floats each
// where H is at most 2048, which stay in the last level of cache beside what else goes through it. They decide how
// these gradients are added up, and follow from H alone. Without such gradients every worker holds a tile's.
int64_t chunk_rows(const Sizes& n, const Wanted& wanted) {
  if (!wanted.sums()) return std::max<int64_t>(1, n.rows);
  return std::max<int64_t>(1, (int64_t{1} << 19) / std::max<int64_t>(1, n.H) / most_rows) * most_rows;
}

// The rows of a chunk whose products are added up together, one part after the other on all threads: a thread then
// reads what it has written of the hidden values, and every part has sums of its own until all rows are through.
constexpr int64_t part_rows = 256;

// The matrices; the hidden values and their gradients of a chunk or of every worker's tile; of a scaled layer dy times
// the scale for every worker's tile, dyᵀ h and dy's column sums; room for sums, and of the weights' gradients for those
// of every part.
template <class T>
struct BackwardScratch {
  T *weight1, *back1, *back2, *hidden, *gradients, *scaled, *product, *totals, *sums, *parts1, *parts2;
  int64_t parts;
  BackwardScratch(Scratch& scratch, const Sizes& n, int variant, const Wanted& wanted, bool has_scale, int worker = 0) {
    const int64_t chunk = std::min(chunk_rows(n, wanted), n.rows), last = n.rows % chunk_rows(n, wanted);
    const int64_t tile = tiles_of(n, chunk).size, rows = wanted.sums() ? chunk : thread_pool().threads() * tile;
    const bool again = wanted.recomputes(variant);
    weight1 = scratch.take<T>(again ? panel_elements(n.H, n.C) : 0);
    back1 = scratch.take<T>(wanted.x ? panel_elements(n.C, n.H) : 0);
    back2 = scratch.take<T>(wanted.hidden ? panel_elements(n.H, n.K) : 0);
    hidden = scratch.take<T>(wanted.product || again ? rows * n.H : 0);
    gradients = scratch.take<T>(wanted.hidden ? rows * n.H : 0);
    int64_t most = 0;
    for (const int64_t part : {rows, last})  // fewer rows may be cut into more blocks
      if (wanted.bias1) most = std::max(most, bias_gradient_workspace(part, n.H));
    if (wanted.bias2 || wanted.scale) most = std::max(most, bias_gradient_workspace(n.rows, n.K));
    sums = scratch.take<T>(most);
    parts = Tiles{chunk, part_rows}.number();
    parts1 = scratch.take<T>(wanted.weight1 ? parts * n.H * n.C : 0);
    parts2 = scratch.take<T>(wanted.product ? parts * n.K * n.H : 0);
    product = scratch.take<T>(has_scale && wanted.product ? n.K * n.H : 0);
    totals = scratch.take<T>(has_scale ? n.K : 0);
    for (int i = 0; i <= worker; ++i) scaled = scratch.take<T>(has_scale && wanted.hidden ? tile * n.K : 0);
  }
};

// sums[part] [m, n] = or += Aᵀ B over the part's rows of A [rows, m] and B [rows, n].
template <class T>
void add_products(int64_t m, int64_t n, int64_t rows, const T* a, const T* b, bool accumulate, T* sums) {
  const ProductTiles tiles = fixed_tiles(m, n);
  const Tiles parts{rows, part_rows};
  thread_pool().run(parts.number() * tiles.number(), [&](int64_t task, int) {
    const auto [i, j, height, width] = tiles.at(task % tiles.number());
    const int64_t part = task / tiles.number(), begin = parts.begin(part);
    tile_product<T>(height, width, parts.length(part), {a + begin * m + i, m, true}, {b + begin * n + j, n},
                    sums + (part * m + i) * n + j, n, accumulate);
  });
}

// Gradients of the scale and of what it scales, from dyᵀ h [K, H] and dy's column sums [K].
template <class T>
void finish_scaled(const BackwardArgs& args, const Sizes& n, const Inputs<T>& in, const Wanted& wanted,
                   const T* product, const T* totals) {
  const auto store = [&](int i, int64_t at, T value) {
    T& d = args.input_gradients[static_cast<size_t>(i)].data<T>()[at];
    d = args.accumulates(i) ? d + value : value;
  };
  parallel_for(n.K, std::max<int64_t>(1, elementwise_grain / n.H), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const T scale = in.scale[k], *row = product + k * n.H;
      if (wanted.scale) {
        const T* weight = in.weight2 + k * n.H;
        const T sum = lane_sum<T>(n.H, [=](int64_t i) { return weight[i] * row[i]; });
        store(input_scale, k, in.bias2 ? std::fma(in.bias2[k], totals[k], sum) : sum);
      }
      if (wanted.bias2) store(input_bias2, k, scale * totals[k]);
      if (!wanted.weight2) continue;
      T* d = args.input_gradients[input_weight2].data<T>() + k * n.H;
      store_or_add(d, args.accumulates(input_weight2), 0, n.H, [=](int64_t i) { return scale * row[i]; });
    }
  });
}

}  // namespace

size_t backward_workspace(const Sizes& n, DType dtype, int variant, const Wanted& wanted, bool scaled) {
  Scratch scratch;
  dispatch_float(dtype, mlp_op.name, [&]<class T>() {
    BackwardScratch<T>(scratch, n, variant, wanted, scaled, thread_pool().threads() - 1);
  });
  return scratch.bytes();
}

template <class T>
void backward(const BackwardArgs& args) {
  const Sizes n(args);
  const Inputs<T> in(args);
  const Wanted wanted = wanted_of(args);
  const T* dy = args.output_gradients[0].data<T>();
  const auto gradient = [&](int i) { return args.input_gradients[static_cast<size_t>(i)].data<T>(); };
  Scratch scratch(args.workspace);
  const bool has_scale = in.scale != nullptr;
  const BackwardScratch<T> own(scratch, n, args.variant, wanted, has_scale);
  T* dy_h = has_scale ? own.product : wanted.weight2 ? gradient(input_weight2) : nullptr;
  Panels<T> first{}, back1{}, back2{};
  const bool again = wanted.recomputes(args.variant);
  if (again) first = pack_panels(n.H, n.C, Factor<T>{in.weight1, n.C, true}, own.weight1);
  if (wanted.x) back1 = pack_panels(n.C, n.H, Factor<T>{in.weight1, n.C}, own.back1);
  if (wanted.hidden) back2 = pack_panels(n.H, n.K, Factor<T>{in.weight2, n.H}, own.back2);
  const int64_t chunk = chunk_rows(n, wanted);
  for (int64_t begin = 0; wanted.any() && (begin == 0 || begin < n.rows); begin += chunk) {
    const int64_t height = std::min(chunk, n.rows - begin);
    const T *x = in.x ? in.x + begin * n.C : nullptr, *dy_rows = dy + begin * n.K;
    const Tiles tiles = tiles_of(n, height);
    thread_pool().run(tiles.number(), [&](int64_t task, int worker) {
      const int64_t i = tiles.begin(task), rows = tiles.length(task);
      const int64_t at = (wanted.sums() ? i : worker * tiles.size) * n.H;
      T *h = own.hidden + at, *du = wanted.hidden ? own.gradients + at : nullptr;
      const T* u = args.variant == 1 ? args.auxiliary[0].data<T>() + (begin + i) * n.H : h;
      if (again) tile(rows, n.H, n.C, x + i * n.C, first, h, in.bias1);
      const T* dz = dy_rows + i * n.K;
      if (du && has_scale) {
        Scratch workers(args.workspace);
        T* scaled = BackwardScratch<T>(workers, n, args.variant, wanted, has_scale, worker).scaled;
        for (int64_t row = 0; row < rows; ++row) {
          PARABOLA_INDEPENDENT
          for (int64_t k = 0; k < n.K; ++k) scaled[row * n.K + k] = in.scale[k] * dz[row * n.K + k];
        }
        dz = scaled;
      }
      if (du) tile<T>(rows, n.H, n.K, dz, back2, du, nullptr);
      through_gelu<T>(rows * n.H, u, wanted.product ? h : nullptr, du);
      if (wanted.x)
        tile<T>(rows, n.C, n.H, du, back1, gradient(input_x) + (begin + i) * n.C, nullptr, args.accumulates(input_x));
    });
    const auto adds = [&](int i) { return begin > 0 || args.accumulates(i); };
    if (wanted.product) add_products(n.K, n.H, height, dy_rows, own.hidden, begin > 0, own.parts2);
    if (wanted.weight1) add_products(n.H, n.C, height, own.gradients, x, begin > 0, own.parts1);
    if (wanted.bias1) bias_gradient(own.gradients, height, n.H, gradient(input_bias1), adds(input_bias1), own.sums);
  }
  if (wanted.product) add_parts(own.parts2, own.parts, n.K * n.H, dy_h, !has_scale && args.accumulates(input_weight2));
  if (wanted.weight1)
    add_parts(own.parts1, own.parts, n.H * n.C, gradient(input_weight1), args.accumulates(input_weight1));
  if (has_scale) {
    if (wanted.bias2 || wanted.scale) bias_gradient(dy, n.rows, n.K, own.totals, false, own.sums);
    finish_scaled(args, n, in, wanted, own.product, own.totals);
  } else if (wanted.bias2) {
    bias_gradient(dy, n.rows, n.K, gradient(input_bias2), args.accumulates(input_bias2), own.sums);
  }
  if (T* d = wanted.residual ? gradient(input_residual) : nullptr; d && d != dy)
    parallel_for(n.rows * n.K, elementwise_grain, [&](int64_t begin, int64_t end) {
      store_or_add(d, args.accumulates(input_residual), begin, end, [=](int64_t i) { return dy[i]; });
    });
}

template void backward<float>(const BackwardArgs&);
template void backward<double>(const BackwardArgs&);

}  // namespace parabola::mlp_kernels
