#include "engine/ops/quadratic_linear_kernels.h"

#include <algorithm>

#include "engine/core/thread_pool.h"
#include "engine/ops/scratch.h"

namespace parabola::quadratic_linear_kernels {
namespace {

// A worker's scratch in forward: tiles of x∘x and of the a_j x and b_j x (unless they are kept), and a row of q. Of one
// factor, a and b are the same place.
template <class T>
struct ForwardScratch {
  T *squares, *a, *b, *q;
  ForwardScratch(Scratch& scratch, const Problem& p, int variant) {
    const int64_t columns = std::min(p.across.size, p.K), elements = variant == 0 ? p.down.size * p.J * columns : 0;
    squares = scratch.take<T>(p.has_square ? p.down.size * p.C : 0);
    a = scratch.take<T>(elements);
    b = p.factors() == 2 ? scratch.take<T>(elements) : a;
    q = scratch.take<T>(columns);
  }
};

template <class T>
size_t worker_bytes_of(const Problem& p, int variant) {
  Scratch scratch;
  ForwardScratch<T>(scratch, p, variant);
  return scratch.bytes();
}

// Few rows make few sums of what a tile's part of the matrices is copied for, which takes a tenth of the time then. So
// the tile is computed transposed, from the matrices where they lie and a copy of x, [C, rows], for all tiles. Kept
// products lie as backward reads them, a form's and x∘x's are not only of x: those go the other way. (A handful of rows
// are multiplied without any copy.)
bool turned(const Problem& p, int variant) {
  return p.rows > 8 && p.rows <= 128 && variant == 0 && p.J > 0 && !p.form() && !p.has_square;
}

// The copy of x; of a worker, tiles [columns, rows] of y, of the a_j x and the b_j x, and a row of q.
template <class T>
struct TurnedScratch {
  T *x, *y, *a, *b, *q;
  TurnedScratch(Scratch& scratch, const Problem& p, int worker) {
    const int64_t tile = std::min(p.across.size, p.K) * p.rows;
    x = scratch.take<T>(panel_elements(p.rows, p.C));
    for (int i = 0; i <= worker; ++i) {
      y = scratch.take<T>(tile);
      a = scratch.take<T>(p.J * tile);
      b = p.factors() == 2 ? scratch.take<T>(p.J * tile) : a;
      q = scratch.take<T>(p.rows);
    }
  }
};

constexpr int64_t most_columns = 64;  // that fixed_tiles() gives a tile of so few rows

template <class T>
void forward_turned(const Problem& p, const ForwardArgs& args) {
  const Inputs<T> in(args);
  Scratch whole(args.workspace);
  const Panels<T> x = pack_panels<T>(p.rows, p.C, {in.x, p.C, true}, TurnedScratch<T>(whole, p, 0).x);
  thread_pool().run(p.across.number(), [&](int64_t task, int worker) {
    const int64_t j = p.across.begin(task), columns = p.across.length(task), tile = columns * p.rows;
    Scratch scratch(args.workspace);
    const TurnedScratch<T> mine(scratch, p, worker);
    PARABOLA_ASSERT(columns <= most_columns);
    int64_t starts[most_columns];
    for (int64_t k = 0; k < columns; ++k) starts[k] = k * p.C;
    const auto multiply = [&](const T* matrix, T* to, bool accumulate) {
      const Patches<T> rows{matrix + j * p.C, starts, {1, 1}, {0, 0}, p.C};
      tile_product(columns, p.rows, rows, x, to, p.rows, accumulate);
    };
    for (int64_t k = 0; k < columns; ++k) std::fill_n(mine.y + k * p.rows, p.rows, in.bias ? in.bias[j + k] : T(0));
    if (in.weight) multiply(in.weight, mine.y, true);
    for (int64_t rank = 0; rank < p.J; ++rank) {
      multiply(in.a + rank * p.K * p.C, mine.a + rank * tile, false);
      if (in.b) multiply(in.b + rank * p.K * p.C, mine.b + rank * tile, false);
    }
    const FactorTile<T> factors{mine.a, mine.b, p.J, p.rows, tile};
    add_quadratic_term(columns, p.rows, factors, in.scale, mine.y, p.rows, mine.q);
    T* y = args.outputs[0].data<T>() + j;
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < columns; ++k) y[i * p.K + k] = mine.y[k * p.rows + i];
  });
}

}  // namespace

void Problem::set(const Shape& x, const Shape& a, const Shape& b, const Shape& square) {
  const Shape& factor = a.rank() == 3 ? a : b;
  has_a = a.rank() == 3, has_b = b.rank() == 3, has_square = square.rank() == 2;
  rows = x.product(0, x.rank() - 1), C = x.back();
  J = has_a || has_b ? factor[0] : 0, K = J > 0 ? factor[1] : square[0];
  const ProductTiles tiles = fixed_tiles(rows, K);
  down = tiles.rows, across = tiles.columns;
  if (form()) down.size = 64, across.size = std::max<int64_t>(1, K);  // rows of its J K products are long
  constexpr int64_t elements = 1 << 20;  // of both factors: 4 MiB of floats, which stay in the last level of cache
  const int64_t row = std::max({int64_t{1}, factors() * J * K, has_square ? C : 0});
  chunk = std::max<int64_t>(1, elements / row / down.size) * down.size;
}

Wanted::Wanted(const Problem& p, uint64_t mask) {
  const auto wants = [&](int i) { return (mask >> i & 1) != 0; };
  x = wants(input_x), weight = wants(input_weight), bias = wants(input_bias);
  a = wants(input_a), b = wants(input_b), square = wants(input_square);
  products = p.J > 0 && (x || a || b), squares = p.has_square && (x || square);
  a_products = p.has_a && (x || (p.has_b ? b : a));
  b_products = p.has_b && (x || a);
}

Wanted::Wanted(const Problem& p, const BackwardArgs& args)
    : Wanted(p, [&] {
        uint64_t mask = 0;
        for (size_t i = 0; i < args.input_gradients.size(); ++i) mask |= uint64_t{args.wants(static_cast<int>(i))} << i;
        return mask;
      }()) {}

size_t forward_workspace(const Problem& p, DType dtype, int variant) {
  const int threads = thread_pool().threads();
  Scratch scratch;
  dispatch_float(dtype, "quadratic_linear", [&]<class T>() {
    if (turned(p, variant))
      TurnedScratch<T>(scratch, p, threads - 1);
    else
      scratch.take<std::byte>(threads * static_cast<int64_t>(worker_bytes_of<T>(p, variant)));
  });
  return scratch.bytes();
}

template <class T>
void forward(const ForwardArgs& args) {
  const Problem p(args);
  if (turned(p, args.variant)) return forward_turned<T>(p, args);
  const Inputs<T> in(args);
  const size_t worker_bytes = worker_bytes_of<T>(p, args.variant);
  thread_pool().run(p.down.number() * p.across.number(), [&](int64_t task, int worker) {
    const int64_t row = task / p.across.number(), column = task % p.across.number();
    const int64_t i = p.down.begin(row), rows = p.down.length(row), j = p.across.begin(column);
    const int64_t columns = p.across.length(column);
    const T* x = in.x + i * p.C;
    T* y = args.outputs[0].data<T>() + i * p.K + j;
    tile_product(rows, columns, in.weight ? p.C : 0, {x, p.C}, {in.weight ? in.weight + j * p.C : x, p.C, true}, y, p.K,
                 false, in.bias ? in.bias + j : nullptr);
    Scratch scratch(args.workspace + static_cast<size_t>(worker) * worker_bytes);
    const ForwardScratch<T> mine(scratch, p, args.variant);
    if (in.square) {
      scaled_squares(rows * p.C, in.scale, x, mine.squares);
      tile_product(rows, columns, p.C, {mine.squares, p.C}, {in.square + j * p.C, p.C, true}, y, p.K, true);
    }
    if (p.J == 0) return;
    FactorTile<T> tile{mine.a, mine.b, p.J, p.J * columns, columns};
    if (args.variant == 1) tile = kept_products<T>(p, args, i, j);
    if (in.a) factor_products(p, in.x, in.a, i, rows, j, columns, tile.a, tile);
    if (in.b) factor_products(p, in.x, in.b, i, rows, j, columns, tile.b, tile);
    if (p.form())
      add_form<T>(rows, columns, {x, p.C}, tile, in.scale, y, p.K, mine.q);
    else
      add_quadratic_term(rows, columns, tile, in.scale, y, p.K, mine.q);
  });
}

template void forward<float>(const ForwardArgs&);
template void forward<double>(const ForwardArgs&);

}  // namespace parabola::quadratic_linear_kernels
