#include "engine/ops/bias.h"
#include "engine/ops/lanes.h"
#include "engine/ops/mlp_parts.h"
#include "engine/ops/scratch.h"

namespace parabola::mlp_kernels {
namespace {

// The matrices; the hidden values and their gradients of a step or of every worker's tile; of a scaled layer dy times
// the scale for every worker's tile, dyᵀ h and dy's column sums; room for sums, and of the weights' gradients for those
// of every part.
template <class T>
struct BackwardScratch {
  T *weight1, *back1, *back2, *hidden, *gradients, *scaled, *product, *totals, *sums, *parts1, *parts2;
  BackwardScratch(Scratch& scratch, const Sizes& n, int variant, const Wanted& wanted, bool has_scale, int worker = 0) {
    const Cut cut(n, wanted);
    const int64_t tile = cut.tiles.size, rows = wanted.sums() ? cut.number * cut.step : thread_pool().threads() * tile;
    const bool again = wanted.recomputes(variant);
    weight1 = scratch.take<T>(again ? panel_elements(n.H, n.C) : 0);
    back1 = scratch.take<T>(wanted.x ? panel_elements(n.C, n.H) : 0);
    back2 = scratch.take<T>(wanted.hidden ? panel_elements(n.H, n.K) : 0);
    hidden = scratch.take<T>(wanted.product || again ? rows * hidden_stride(n) : 0);
    gradients = scratch.take<T>(wanted.hidden ? rows * hidden_stride(n) : 0);
    int64_t most = 0;
    const int64_t last = std::max<int64_t>(0, cut.parts.length(cut.number - 1) - 1) / cut.step;
    for (const int64_t step : {int64_t{0}, last, cut.steps - 1})  // fewer rows may be cut into more blocks
      if (wanted.bias1) most = std::max(most, bias_gradient_workspace(cut.height(step), n.H));
    if (wanted.bias2 || wanted.scale) most = std::max(most, bias_gradient_workspace(n.rows, n.K));
    sums = scratch.take<T>(most);
    parts1 = scratch.take<T>(wanted.weight1 && cut.number > 1 ? cut.number * n.H * n.C : 0);
    parts2 = scratch.take<T>(wanted.product && cut.number > 1 ? cut.number * n.K * n.H : 0);
    product = scratch.take<T>(has_scale && wanted.product ? n.K * n.H : 0);
    totals = scratch.take<T>(has_scale ? n.K : 0);
    for (int i = 0; i <= worker; ++i) scaled = scratch.take<T>(has_scale && wanted.hidden ? tile * n.K : 0);
  }
};

// sums[part] [m, n] = or += Aᵀ B over a part's rows in a step of A [.., m] and B [.., n].
template <class T>
void add_products(const Cut& cut, int64_t step, int64_t m, int64_t n, const PartRows<T>& a, const PartRows<T>& b,
                  bool accumulate, T* sums) {
  const ProductTiles tiles = cut.number > 1 ? fixed_tiles(m, n) : product_tiles(m, n, false);
  thread_pool().run(cut.number * tiles.number(), [&](int64_t task, int) {
    const auto [i, j, height, width] = tiles.at(task % tiles.number());
    const int64_t part = task / tiles.number(), rows = cut.length(part, step);
    if (step > 0 && rows == 0) return;
    tile_product<T>(height, width, rows, {a.at(part, i), a.stride, true}, {b.at(part, j), b.stride},
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
  const Cut cut(n, wanted);
  const int64_t stride = hidden_stride(n);
  const bool several = cut.number > 1, adds1 = args.accumulates(input_weight1),
             adds2 = !has_scale && args.accumulates(input_weight2);
  for (int64_t step = 0; wanted.any() && step < cut.steps; ++step) {
    thread_pool().run(cut.number * cut.tiles.number(), [&](int64_t task, int worker) {
      const int64_t part = task / cut.tiles.number(), in_part = cut.tiles.begin(task % cut.tiles.number());
      const int64_t rows = std::min(cut.tiles.size, cut.length(part, step) - in_part);
      if (rows <= 0) return;
      const int64_t i = cut.begin(part, step) + in_part;
      const int64_t at = (wanted.sums() ? part * cut.step + in_part : worker * cut.tiles.size) * stride;
      T *h = own.hidden + at, *du = wanted.hidden ? own.gradients + at : nullptr;
      const Rows<const T> u =
          args.variant == 1 ? Rows<const T>{args.auxiliary[0].data<T>() + i * n.H, n.H} : Rows<const T>{h, stride};
      if (again) tile<T>(rows, n.H, n.C, {in.x + i * n.C, n.C}, first, {h, stride}, in.bias1);
      const T* dz = dy + i * n.K;
      if (du && has_scale) {
        Scratch workers(args.workspace);
        T* scaled = BackwardScratch<T>(workers, n, args.variant, wanted, has_scale, worker).scaled;
        for (int64_t row = 0; row < rows; ++row) {
          PARABOLA_INDEPENDENT
          for (int64_t k = 0; k < n.K; ++k) scaled[row * n.K + k] = in.scale[k] * dz[row * n.K + k];
        }
        dz = scaled;
      }
      if (du) tile<T>(rows, n.H, n.K, {dz, n.K}, back2, {du, stride}, nullptr);
      const int64_t lines = u.stride == n.H && stride == n.H ? 1 : rows;  // all rows at once where they lie so
      for (int64_t line = 0; line < lines; ++line)
        through_gelu<T>(rows / lines * n.H, u.data + line * u.stride, wanted.product ? h + line * stride : nullptr,
                        du ? du + line * stride : nullptr);
      if (wanted.x)
        tile<T>(rows, n.C, n.H, {du, stride}, back1, {gradient(input_x) + i * n.C, n.C}, nullptr,
                args.accumulates(input_x));
    });
    const int64_t begin = cut.begin(0, step);
    if (wanted.product)
      add_products<T>(cut, step, n.K, n.H, {dy + begin * n.K, n.K, cut.parts.size}, {own.hidden, stride, cut.step},
                      step > 0 || (!several && adds2), several ? own.parts2 : dy_h);
    if (wanted.weight1)
      add_products<T>(cut, step, n.H, n.C, {own.gradients, stride, cut.step}, {in.x + begin * n.C, n.C, cut.parts.size},
                      step > 0 || (!several && adds1), several ? own.parts1 : gradient(input_weight1));
    if (wanted.bias1)
      bias_gradient(own.gradients, cut.height(step), n.H, gradient(input_bias1),
                    step > 0 || args.accumulates(input_bias1), own.sums, stride);
  }
  if (several && wanted.product) add_parts(own.parts2, cut.number, n.K * n.H, dy_h, adds2);
  if (several && wanted.weight1) add_parts(own.parts1, cut.number, n.H * n.C, gradient(input_weight1), adds1);
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
