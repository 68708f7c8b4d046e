#pragma once

namespace parabola {

// Keeps every thread of the pool busy with multiply-adds of float32 that never leave the registers, and returns how
// many flops that was, 2 for each: over the time it took, the most that this machine can compute.
double multiply_adds_in_registers();

}  // namespace parabola
