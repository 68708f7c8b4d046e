#pragma once

namespace parabola {

// Whether float32 products on CUDA may round their factors to TF32 (10 bits of fraction, sums in float32), which tensor
// cores compute about eight times faster: --dtype tf32. Off at first. Affects no product on the CPU.
void allow_tf32(bool allowed);
bool tf32_allowed();

}  // namespace parabola
