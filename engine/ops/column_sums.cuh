// Sums of the columns of a matrix on CUDA, for gradients of whatever is broadcast over rows (column_stats.h is the
// CPU's). The rows are cut into parts; a block adds up one part of 32 columns, a second kernel all parts. How many
// parts there are and the order of every sum follow from the matrix's shape.
#pragma once
#include <algorithm>

#include "engine/cuda/warp.cuh"

namespace parabola {

struct ColumnParts {
  int64_t rows, columns;

  // At least 256 rows, of which each of a block's 8 warps adds up every eighth; at most 512 parts, 16 for each lane of
  // the warp that adds them.
  int64_t part_rows() const { return std::max<int64_t>(256, (rows + 511) / 512); }
  int64_t parts() const { return (rows + part_rows() - 1) / part_rows(); }
  // Bytes for `sums` quantities a column, in the type that T is computed in.
  template <class T>
  size_t workspace(int sums) const {
    return static_cast<size_t>(parts() * sums * columns) * sizeof(Compute<T>);
  }
};

// partials [parts][sums][columns]: term.add(row, column, values) adds an element's quantities to values[sums].
template <int sums, class Real, class Term>
__global__ void column_sums_of_parts(Term term, int64_t rows, int64_t columns, int64_t part_rows, Real* partials) {
  Real* shared = shared_memory<Real>();  // [warps][sums][32]
  const int64_t column = int64_t{blockIdx.x} * warp_size + lane_index();
  for (int64_t part = blockIdx.y; part * part_rows < rows; part += gridDim.y) {
    Real values[sums] = {};
    const int64_t end = part * part_rows + part_rows < rows ? part * part_rows + part_rows : rows;
    if (column < columns)
      for (int64_t row = part * part_rows + warp_index(); row < end; row += warps_in_block())
        term.add(row, column, values);
    for (int s = 0; s < sums; ++s) shared[(warp_index() * sums + s) * warp_size + lane_index()] = values[s];
    __syncthreads();
    // Warp s adds up quantity s of all warps.
    for (int s = warp_index(); s < sums && column < columns; s += warps_in_block()) {
      Real sum = 0;
      for (int warp = 0; warp < warps_in_block(); ++warp) sum += shared[(warp * sums + s) * warp_size + lane_index()];
      partials[(part * sums + s) * columns + column] = sum;
    }
    __syncthreads();
  }
}

// finish.set(i, sum) for each i of [sums][columns], sum in double: a warp each.
template <class Real, class Finish>
__global__ void column_sums_of_all(const Real* partials, int64_t parts, int64_t count, Finish finish) {
  for (int64_t i = thread_index() / warp_size; i < count; i += thread_count() / warp_size) {
    double sum = 0;
    for (int64_t part = lane_index(); part < parts; part += warp_size) sum += partials[part * count + i];
    sum = warp_reduce(sum, Sum());
    if (lane_index() == 0) finish.set(i, sum);
  }
}

template <class Real, class Finish>
void add_parts(DeviceStream stream, const Real* partials, int64_t parts, int64_t count, const Finish& finish) {
  launch(column_sums_of_all<Real, Finish>, blocks_for(count, block_size / warp_size), block_size, 0, stream, partials,
         parts, count, finish);
}

// term and finish are structs of pointers and numbers with a __device__ member each. workspace as above.
template <int sums, class T, class Term, class Finish>
void device_column_sums(DeviceStream stream, const ColumnParts& matrix, std::byte* workspace, const Term& term,
                        const Finish& finish) {
  using Real = Compute<T>;
  Real* partials = reinterpret_cast<Real*>(workspace);
  const int64_t tiles = (matrix.columns + warp_size - 1) / warp_size;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(std::max<int64_t>(1, matrix.parts())));
  launch(column_sums_of_parts<sums, Real, Term>, grid, block_size, block_size * sums * sizeof(Real), stream, term,
         matrix.rows, matrix.columns, matrix.part_rows(), partials);
  add_parts(stream, partials, matrix.parts(), sums * matrix.columns, finish);
}

}  // namespace parabola
