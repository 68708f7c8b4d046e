#include "engine/blas/precision.h"

namespace parabola {
namespace {
bool allowed = false;
}

void allow_tf32(bool now_allowed) { allowed = now_allowed; }
bool tf32_allowed() { return allowed; }

}  // namespace parabola
