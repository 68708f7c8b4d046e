// Matrix products on the CPU. tile_product is the one inner function that every dense op goes through; gemm spreads it
// over the threads. Its kernel keeps a block of C in registers and streams A and B past it; what would be read with
// long jumps is copied first. Eigen's product is the reference in tests.
#pragma once
#include <cstdint>

namespace parabola {

// A factor of a product as it lies in memory: row-major, rows `stride` elements apart. op(A) is what lies there, or its
// transpose.
template <class T>
struct Factor {
  const T* data;
  int64_t stride;
  bool transposed = false;

  // op(A) from row i and column j on.
  Factor at(int64_t i, int64_t j) const {
    return {data + (transposed ? j * stride + i : i * stride + j), stride, transposed};
  }
};

// A matrix [rows, taps[0] * taps[1] * width] that is not written out: row i consists of runs of `width` elements, run
// (t, u) of which begins at data + rows[i] + t * jumps[0] + u * jumps[1]. The patches of a convolution, read where they
// lie.
template <class T>
struct Patches {
  const T* data;
  const int64_t* rows;
  int64_t taps[2], jumps[2], width;
  int64_t columns() const { return taps[0] * taps[1] * width; }
};

// op(B) [k, n] copied once for many products: panels of as many columns as the kernel takes, rows of them one after the
// other, the last panel's of as many whole vectors as it needs, zeros beyond the last column.
template <class T>
struct Panels {
  const T* data;
  int64_t k;
};
int64_t panel_elements(int64_t n, int64_t k);  // for every T
template <class T>
Panels<T> pack_panels(int64_t n, int64_t k, const Factor<T>& b, T* to);
// Rows [begin, begin + count) of those k, which `rows` are; the panels are whole once all rows are. Single-threaded.
template <class T>
void pack_panel_rows(int64_t n, int64_t k, const Factor<T>& rows, int64_t begin, int64_t count, T* to);

// C [m, n] = op(A) op(B), or + bias, [n], added to every row, or C += with accumulate, which takes no bias; op(A) is
// [m, k], op(B) is [k, n], C row-major with rows `stride` elements apart. Single-threaded: tasks call it on tiles of
// theirs. Every element is one chain of fused multiply-adds in the order of k (from the bias or C's value on), so its
// bits depend on its row of A and column of B alone: not on tiles, strides, threads, or on what else is computed beside
// it. Allocates nothing; takes up to 320 KiB of stack.
template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, int64_t stride,
                  bool accumulate, const T* bias = nullptr);
template <class T>
void tile_product(int64_t m, int64_t n, const Patches<T>& a, const Panels<T>& b, T* c, int64_t stride, bool accumulate,
                  const T* bias = nullptr);
// C [m, patches' columns]. Reads up to patch_margin elements past a run's end (and makes nothing of them).
template <class T>
void tile_product(int64_t m, int64_t k, const Factor<T>& a, const Patches<T>& b, T* c, int64_t stride, bool accumulate);
constexpr int64_t patch_margin = 48;

// tile_product on all threads with C contiguous, cut into tiles by fixed boundaries. Where that gives few tiles and k
// is long (the weight gradient of a narrow layer), k is cut too, and the parts are added in their order. All boundaries
// follow from m, n and k alone. `workspace` has room for gemm_workspace(m, n, k) elements, which do not shrink as k
// grows.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const Factor<T>& a, const Factor<T>& b, T* c, bool accumulate, T* workspace);
int64_t gemm_workspace(int64_t m, int64_t n, int64_t k);

// out [count] = or += the sum of parts [number][count], added in the order of the parts; on all threads.
template <class T>
void add_parts(const T* parts, int64_t number, int64_t count, T* out, bool accumulate);

// How a long axis is cut: into pieces of `size`, the last one smaller.
struct Tiles {
  int64_t count, size;  // elements of the axis, of a tile
  int64_t number() const { return (count + size - 1) / size; }
  int64_t begin(int64_t tile) const { return tile * size; }
  int64_t end(int64_t tile) const { return begin(tile) + size < count ? begin(tile) + size : count; }
  int64_t length(int64_t tile) const { return end(tile) - begin(tile); }
};

// At most 256 rows, 64 where there are few, so that two threads share even a small product; at most 256 columns.
Tiles row_tiles(int64_t m);
Tiles column_tiles(int64_t n);

// The tiles of C [m, n]: of whole rows, so that A is read and packed but once, where there are many; at least four a
// thread, where C is large enough. No element's bits depend on them. Cut first are columns, each tile's part of B being
// packed for it alone, or rows, where A is transposed and so what has to be packed.
struct ProductTile {
  int64_t i, j, rows, columns;
};
struct ProductTiles {
  Tiles rows, columns;
  int64_t number() const { return rows.number() * columns.number(); }
  ProductTile at(int64_t number) const {
    const int64_t row = number / columns.number(), column = number % columns.number();
    return {rows.begin(row), columns.begin(column), rows.length(row), columns.length(column)};
  }
};
ProductTiles product_tiles(int64_t m, int64_t n, bool columns_first = true);

// Tiles of at most 256 x 256 that m and n alone decide, for sums and buffers that end with them.
ProductTiles fixed_tiles(int64_t m, int64_t n);

}  // namespace parabola
