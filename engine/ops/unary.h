// Functions of one tensor, element by element: any shape; f32, f64, on CUDA bf16 and f16 as well. Recomputed by
// default. What backward reads is kept: nothing for neg; y for exp, sqrt, relu6, sigmoid, tanh; x for the others. Cost:
// one read, one write; backward two reads, one write. In f32 the CPU and CUDA share one vector code (vector_math.h),
// whose errors are given in units in the last place (ulp). Subnormal results of exp, sigmoid and silu may be 0.
#pragma once
#include "engine/core/op.h"

namespace parabola {

Tensor neg(const Tensor& x);  // -x
inline Tensor operator-(const Tensor& x) { return neg(x); }
Tensor exp(const Tensor& x);     // e^x, within 1 ulp; dx = dy y
Tensor log(const Tensor& x);     // ln x, within 1 ulp; NaN below 0; dx = dy / x
Tensor sqrt(const Tensor& x);    // NaN below 0; dx = dy / 2y
Tensor square(const Tensor& x);  // x^2; dx = 2x dy
Tensor abs(const Tensor& x);     // |x|; dx = sign(x) dy, 0 at the kink, as PyTorch

// min(max(x, low), high); NaN stays NaN. dx = dy where low < x < high, else 0, as PyTorch. A bound may be infinite.
// UsageError unless low <= high.
Tensor clamp(const Tensor& x, double low, double high);
Tensor relu6(const Tensor& x);  // min(max(x, 0), 6); dx = dy where 0 < x < 6, else 0, as PyTorch

Tensor sigmoid(const Tensor& x);  // 1 / (1 + e^-x), within 3 ulp; dx = dy y (1 - y)
Tensor tanh(const Tensor& x);     // within 3 ulp, near 0 as well; dx = dy (1 - y^2)

// x sigmoid(x), within 3 ulp, also called swish. Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units for neural
// network function approximation in reinforcement learning", 2017.
Tensor silu(const Tensor& x);

// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, GELU's other form (gelu.h has the exact one), computed as x times
// a sigmoid. Within 2e-7 |x|. Hendrycks, Gimpel, "Gaussian error linear units", 2016.
Tensor gelu_tanh(const Tensor& x);

struct ClampAttributes {
  double low, high;
};
extern const OpDef neg_op, exp_op, log_op, sqrt_op, square_op, abs_op, clamp_op, relu6_op, sigmoid_op, tanh_op, silu_op,
    gelu_tanh_op;

}  // namespace parabola
