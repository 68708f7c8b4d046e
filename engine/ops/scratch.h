// Cuts an op's workspace into parts, each aligned to a cache line.
#pragma once
#include <cstddef>
#include <cstdint>

namespace parabola {

// The same take() calls run twice: in layout(), on no memory, to count the bytes, and in the kernel, on the workspace.
// So an op lists its scratch once, and the two cannot disagree.
class Scratch {
 public:
  explicit Scratch(std::byte* workspace = nullptr) : workspace_(workspace) {}
  template <class T>
  T* take(int64_t elements) {
    const size_t begin = bytes_;
    bytes_ += (static_cast<size_t>(elements) * sizeof(T) + 63) / 64 * 64;
    return workspace_ ? reinterpret_cast<T*>(workspace_ + begin) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* workspace_;
  size_t bytes_ = 0;
};

}  // namespace parabola
