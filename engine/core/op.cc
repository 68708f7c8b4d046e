#include "engine/core/op.h"

#include <unordered_map>

namespace parabola {
namespace {
// A function's static: entries come before main(), from files in any order.
std::unordered_map<const OpDef*, CudaKernels::Entry>& cuda_table() {
  static auto& table = *new std::unordered_map<const OpDef*, CudaKernels::Entry>;
  return table;
}
}  // namespace

CudaKernels::CudaKernels(const OpDef& op, const Entry& entry) { cuda_table().emplace(&op, entry); }

const CudaKernels::Entry* CudaKernels::of(const OpDef& op) {
  const auto found = cuda_table().find(&op);
  return found == cuda_table().end() ? nullptr : &found->second;
}

Layout layout_of(const OpDef& op, const Signature& signature, Device device) {
  Layout layout = op.layout(signature);
  if (device.kind == DeviceKind::cpu) return layout;
  const CudaKernels::Entry* entry = CudaKernels::of(op);
  const auto bytes = [&](size_t (*workspace)(const Signature&)) { return workspace ? workspace(signature) : 0; };
  layout.forward_workspace = entry ? bytes(entry->forward_workspace) : 0;
  layout.backward_workspace = entry ? bytes(entry->backward_workspace) : 0;
  return layout;
}

}  // namespace parabola
