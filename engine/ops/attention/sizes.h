// The sizes of an attention, for its kernels on every device.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/ops/attention/scaled_dot_product_attention.h"

namespace parabola {

// `count` attentions side by side: q [L, D], k [S, D], v [S, E].
struct AttentionSizes {
  int64_t count, L, S, D, E;
  bool causal;

  AttentionSizes(const Shape& q, const Shape& k, const Shape& v, const Attributes& attributes)
      : count(q.product(0, q.rank() - 2)),
        L(q[-2]),
        S(k[-2]),
        D(q[-1]),
        E(v[-1]),
        causal(attributes.get<AttentionAttributes>().causal) {}
  // How many keys queries before number `end` see: all of them [0, keys(end)), and the last of them all of these.
  constexpr int64_t keys(int64_t end) const { return causal ? std::min(end, S) : S; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(D)); }
};

}  // namespace parabola
