// The kernels of batch_norm and batch_norm_inference, and what they share with the rules.
#pragma once
#include "engine/ops/batch_norm.h"
#include "engine/ops/column_stats.h"
#include "engine/ops/data_of.h"

namespace parabola::batch_norm_kernels {

enum Input : uint8_t { x_input, gamma_input, beta_input, mean_input, variance_input, residual_input };

inline RowBlocks rows_of(const Shape& x) { return rows_at_once(x.product(0, x.rank() - 1), x.back()); }

// Statistics of the batch into the auxiliary results [mean, 1 / deviation], and the running ones towards them.
template <class T>
void batch_statistics(const ForwardArgs& args);

template <bool training, class T>
void forward(const ForwardArgs& args);
template <bool training, class T>
void backward(const BackwardArgs& args);

}  // namespace parabola::batch_norm_kernels
