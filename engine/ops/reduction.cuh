// Sums over any axes on CUDA (reduction.h is the CPU's). A sum is cut into parts, which a second kernel adds up; how
// many there are and the order of every sum follow from the shapes.
#pragma once
#include "engine/ops/column_sums.cuh"
#include "engine/ops/walk.cuh"

namespace parabola {

// The k-th of the terms that make up a result.
template <class Real, class Term>
struct TermOfResult {
  DeviceWalk summed, kept;
  Term term;
  __device__ Real operator()(int64_t k, int64_t result) const { return term(summed.at(k).a + kept.at(result).a); }
  __device__ void add(int64_t k, int64_t result, Real (&sum)[1]) const { sum[0] += (*this)(k, result); }
};

// partials [parts][results], a block each: the sum of `part_terms` of a result's terms, which run along the lanes.
template <class Real, class Term>
__global__ void row_sums_of_parts(Term term, int64_t results, int64_t terms, int64_t part_terms, int64_t parts,
                                  Real* partials) {
  for (int64_t i = blockIdx.x; i < results * parts; i += gridDim.x) {
    const int64_t part = i / results, result = i % results;
    const int64_t begin = part * part_terms, end = begin + part_terms < terms ? begin + part_terms : terms;
    Real sum = 0;
    for (int64_t k = begin + threadIdx.x; k < end; k += blockDim.x) sum += term(k, result);
    sum = block_reduce(sum, Sum(), shared_memory<Real>());
    if (threadIdx.x == 0) partials[i] = sum;
  }
}

// Sums a tensor of shape `from` down to shape `to`, which broadcasts to it: over the axes that `to` has not, or has
// with size 1.
class DeviceReduction {
 public:
  DeviceReduction(const Shape& from, const Shape& to)
      : summed_(without(to, from), strides_of(from), {}),
        kept_(without(without(to, from), from), strides_of(from), {}) {}

  size_t workspace(DType dtype) const {
    const size_t partials = static_cast<size_t>(kept_.elements() * (along_rows() ? row_parts() : columns().parts()));
    return partials * (dtype == DType::f64 ? sizeof(double) : sizeof(float));
  }

  // Sums term(flat index in `from`); finish.set(flat index in `to`, sum in double). Both are structs of pointers and
  // numbers.
  template <class T, class Term, class Finish>
  void run(DeviceStream stream, std::byte* workspace, const Term& term, const Finish& finish) const {
    using Real = Compute<T>;
    const TermOfResult<Real, Term> term_of_result{DeviceWalk(summed_), DeviceWalk(kept_), term};
    if (!along_rows()) return device_column_sums<1, T>(stream, columns(), workspace, term_of_result, finish);
    Real* partials = reinterpret_cast<Real*>(workspace);
    launch(row_sums_of_parts<Real, TermOfResult<Real, Term>>, blocks_for(row_parts() * kept_.elements(), 1),
           row_block(), row_block() / warp_size * sizeof(Real), stream, term_of_result, kept_.elements(),
           summed_.elements(), row_part_terms(), row_parts(), partials);
    add_parts(stream, partials, row_parts(), kept_.elements(), finish);
  }

 private:
  // `shape` with size 1 on the axes that `other` has in full.
  static Shape without(const Shape& other, const Shape& shape) {
    Shape result = shape;
    for (int axis = -other.rank(); axis < 0; ++axis)
      if (other[axis] == shape[axis]) result = result.with(axis, 1);
    return result;
  }

  // Where neighbours in memory belong to one sum, lanes run along it; otherwise, or where few do, along the results.
  bool along_rows() const { return summed_.step_a() == 1 && summed_.elements() >= warp_size; }
  ColumnParts columns() const { return {summed_.elements(), kept_.elements()}; }
  // A block's threads, and at least 32 terms for each of them; at most 1024 parts, 32 for each lane that adds them.
  int row_block() const {
    return static_cast<int>(
        std::min<int64_t>(block_size, (summed_.elements() + warp_size - 1) / warp_size * warp_size));
  }
  int64_t row_part_terms() const { return std::max<int64_t>(32 * block_size, (summed_.elements() + 1023) / 1024); }
  int64_t row_parts() const { return (summed_.elements() + row_part_terms() - 1) / row_part_terms(); }

  Walk summed_, kept_;  // from a flat index among a result's terms, and among the results, to one in `from`
};

}  // namespace parabola
