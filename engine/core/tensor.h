// Tensor: a handle on a value {storage, shape, dtype, offset}. Row-major and contiguous; images are NHWC. Copying a
// Tensor copies the handle, not the bytes. A default-constructed Tensor is absent: what an optional input of an op is
// given.
#pragma once
#include <iosfwd>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/shape.h"
#include "engine/core/storage.h"

namespace parabola {

struct Leaf;

class Tensor {
 public:
  Tensor() = default;

  // New tensors. empty: contents undefined. from: a copy of the values, ShapeError where their number does not fit.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Category category = Category::activations,
                      Device device = {});
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
                     Category category = Category::activations, Device device = {});
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Category category = Category::inputs);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Category category = Category::inputs) {
    return from(std::span<const T>(values), shape, category);
  }

  bool defined() const { return static_cast<bool>(storage_); }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const;
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }

  // The elements in the CPU's memory. DTypeError where T is not the dtype, DeviceError where they are on another
  // device.
  template <class T>
  T* data() const;
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(elements())};
  }
  template <class T>
  std::vector<T> to_vector() const {
    const Tensor here = on_cpu();
    const std::span<T> s = here.span<T>();
    return {s.begin(), s.end()};
  }
  std::byte* raw() const;               // on whatever device they are; for the engine
  double item() const;                  // the one element of a one-element tensor
  double at(int64_t flat_index) const;  // any floating or integer dtype, as double

  // Copies; those from a device wait for it (item, at and to_vector as well). copy_from: same shape, from any device to
  // any; converts between floating dtypes; counts as a mutation. on_cpu: itself where it is there already.
  void copy_from(const Tensor& source) const;
  Tensor clone(Category category) const;
  Tensor to(DType dtype, Category category) const;    // on the same device
  Tensor to(Device device, Category category) const;  // with the same dtype
  Tensor on_cpu() const;

  // Views outside of any tape (for loaders, files, tests); models use ops::reshape and ops::slice.
  Tensor view(const Shape& shape, int64_t element_offset = 0) const;

  // Leaves: parameters, and inputs whose gradient is wanted. gradient() is absent until backward has reached it;
  // gradients of several tapes add up until zero_gradient(). Copies share the mark, if made after the first call of
  // set_requires_gradient. UsageError for what an op computed, DTypeError for integers.
  bool requires_gradient() const;
  const Tensor& set_requires_gradient(bool wanted) const;
  Tensor gradient() const;
  void zero_gradient() const;

  std::string str() const;  // values (the first ones of a large tensor), shape, dtype and device

  // For the engine: where the tensor stands.
  const StorageHandle& storage() const { return storage_; }
  int64_t offset() const { return offset_; }  // in elements
  const std::shared_ptr<Leaf>& leaf() const { return leaf_; }
  uint64_t tape() const { return tape_; }  // serial number of the tape that made it; 0: none
  int value() const { return value_; }     // its index there
  Tensor(StorageHandle storage, const Shape& shape, DType dtype, int64_t offset, uint64_t tape = 0, int value = -1)
      : storage_(std::move(storage)), shape_(shape), dtype_(dtype), offset_(offset), value_(value), tape_(tape) {}

 private:
  StorageHandle storage_;
  Shape shape_;
  DType dtype_ = DType::f32;
  int64_t offset_ = 0;
  mutable std::shared_ptr<Leaf> leaf_;
  int value_ = -1;
  uint64_t tape_ = 0;
};

struct Leaf {
  bool requires_gradient = false;
  bool has_gradient = false;  // false: the next backward overwrites `gradient`
  Tensor gradient;
};

std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

}  // namespace parabola
