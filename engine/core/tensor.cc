#include "engine/core/tensor.h"

#include <algorithm>
#include <cstring>
#include <ostream>
#include <type_traits>

#include "engine/core/device.h"
#include "engine/core/error.h"

namespace parabola {
namespace {

// The type in which values of T are converted: the 16-bit types know floats only.
template <class T>
using Exact = std::conditional_t<std::is_same_v<T, double>, double, float>;

void convert(const Tensor& from, const Tensor& to) {
  dispatch_any_float(to.dtype(), "copy", [&]<class To>() {
    dispatch_any_float(from.dtype(), "copy", [&]<class From>() {
      std::ranges::transform(from.span<From>(), to.data<To>(), [](From v) {
        return static_cast<To>(static_cast<Exact<To>>(static_cast<Exact<From>>(v)));
      });
    });
  });
}

// The same bytes, moved between devices (one of them may be the CPU) or within one.
void move_bytes(const Tensor& from, const Tensor& to) {
  using Copy = DeviceBackend::Copy;
  const Device source = from.device(), target = to.device();
  const bool leaves_cpu = source.kind == DeviceKind::cpu, reaches_cpu = target.kind == DeviceKind::cpu;
  if (leaves_cpu && reaches_cpu)
    std::memmove(to.raw(), from.raw(), to.bytes());  // they may be views of the same bytes
  else if (leaves_cpu)
    backend_of(target).copy(target.index, to.raw(), from.raw(), to.bytes(), Copy::to_device);
  else if (reaches_cpu)
    backend_of(source).copy(source.index, to.raw(), from.raw(), to.bytes(), Copy::to_host);
  else if (source == target)
    backend_of(source).copy(source.index, to.raw(), from.raw(), to.bytes(), Copy::within);
  else
    move_bytes(from.on_cpu(), to);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Category category, Device device) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
  return Tensor(StorageHandle(std::make_shared<Storage>(bytes, device, category)), shape, dtype, 0);
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Category category, Device device) {
  Tensor tensor = empty(shape, dtype, category, device);
  if (device.kind != DeviceKind::cpu) {
    if (value == 0)
      backend_of(device).clear(device.index, tensor.raw(), tensor.bytes());
    else
      tensor.copy_from(full(shape, value, dtype, category));
    return tensor;
  }
  if (dtype == DType::i32)
    std::ranges::fill(tensor.span<int32_t>(), static_cast<int32_t>(value));
  else
    dispatch_any_float(dtype, "full", [&]<class T>() {
      std::ranges::fill(tensor.span<T>(), static_cast<T>(static_cast<Exact<T>>(value)));
    });
  return tensor;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, Category category) {
  if (static_cast<int64_t>(values.size()) != shape.elements())
    fail<ShapeError>("tensor", "got ", values.size(), " values for shape ", shape, ", expected ", shape.elements());
  Tensor tensor = empty(shape, dtype_of<T>, category);
  std::ranges::copy(values, tensor.data<T>());
  return tensor;
}
template Tensor Tensor::from(std::span<const float>, const Shape&, Category);
template Tensor Tensor::from(std::span<const double>, const Shape&, Category);
template Tensor Tensor::from(std::span<const int32_t>, const Shape&, Category);
template Tensor Tensor::from(std::span<const uint8_t>, const Shape&, Category);

Device Tensor::device() const {
  if (!defined()) fail<UsageError>("tensor", "an absent tensor is on no device");
  return storage_->device();
}

std::byte* Tensor::raw() const {
  if (!defined()) fail<UsageError>("tensor", "an absent tensor has no data");
  if (!storage_->resident())
    fail<UsageError>("tensor", "the values of this ", shape_,
                     " tensor are gone: they were evicted, and their tape is dead");
  return storage_->data() + static_cast<size_t>(offset_) * size_of(dtype_);
}

template <class T>
T* Tensor::data() const {
  std::byte* bytes = raw();
  if (dtype_ != dtype_of<T>)
    fail<DTypeError>("tensor", "elements are ", name_of(dtype_), ", but were read as ", name_of(dtype_of<T>));
  if (device().kind != DeviceKind::cpu)
    fail<DeviceError>("tensor", "the elements of this ", shape_, " tensor are on ", device().str(),
                      ", expected cpu; on_cpu() copies them");
  return reinterpret_cast<T*>(bytes);
}
template bf16* Tensor::data<bf16>() const;
template f16* Tensor::data<f16>() const;
template float* Tensor::data<float>() const;
template double* Tensor::data<double>() const;
template int32_t* Tensor::data<int32_t>() const;
template uint8_t* Tensor::data<uint8_t>() const;

double Tensor::at(int64_t index) const {
  if (index < 0 || index >= elements()) fail<ShapeError>("tensor", "index ", index, " is outside of shape ", shape_);
  if (device().kind != DeviceKind::cpu) return view({}, index).on_cpu().item();
  if (dtype_ == DType::i32) return data<int32_t>()[index];
  if (dtype_ == DType::u8) return data<uint8_t>()[index];
  double value = 0;
  dispatch_any_float(dtype_, "tensor", [&]<class T>() { value = static_cast<Exact<T>>(data<T>()[index]); });
  return value;
}

double Tensor::item() const {
  if (elements() != 1) fail<ShapeError>("item", "got shape ", shape_, ", expected one element");
  return at(0);
}

void Tensor::copy_from(const Tensor& source) const {
  if (source.shape() != shape_) fail<ShapeError>("copy", "got ", source.shape(), ", expected ", shape_);
  if (source.dtype() == dtype_) {
    move_bytes(source, *this);
  } else if (device().kind == DeviceKind::cpu) {
    convert(source.on_cpu(), *this);
  } else {
    move_bytes(source.on_cpu().to(dtype_, Category::inputs), *this);
  }
  ++storage_->version;
}

Tensor Tensor::to(DType dtype, Category category) const {
  Tensor copy = empty(shape_, dtype, category, device());
  copy.copy_from(*this);
  return copy;
}
Tensor Tensor::to(Device device, Category category) const {
  Tensor copy = empty(shape_, dtype_, category, device);
  copy.copy_from(*this);
  return copy;
}
Tensor Tensor::clone(Category category) const { return to(dtype_, category); }
Tensor Tensor::on_cpu() const { return device().kind == DeviceKind::cpu ? *this : to(Device{}, Category::inputs); }

Tensor Tensor::view(const Shape& shape, int64_t element_offset) const {
  if (element_offset < 0 || shape.elements() > elements() - element_offset)
    fail<ShapeError>("view", "got shape ", shape, " at ", element_offset, ", which is not inside of ", shape_);
  return Tensor(storage_, shape, dtype_, offset_ + element_offset);
}

bool Tensor::requires_gradient() const { return leaf_ && leaf_->requires_gradient; }

const Tensor& Tensor::set_requires_gradient(bool wanted) const {
  if (tape_ != 0) fail<UsageError>("tensor", "only a leaf can be asked for gradients; this one is computed by an op");
  if (wanted && !defined()) fail<UsageError>("tensor", "an absent tensor has no gradient");
  if (wanted && !is_floating(dtype_))
    fail<DTypeError>("tensor", "got dtype ", name_of(dtype_), ", expected a floating one for a gradient");
  if (!leaf_) leaf_ = std::make_shared<Leaf>();
  leaf_->requires_gradient = wanted;
  if (!wanted) leaf_->gradient = Tensor(), leaf_->has_gradient = false;
  return *this;
}

Tensor Tensor::gradient() const { return leaf_ && leaf_->has_gradient ? leaf_->gradient : Tensor(); }
void Tensor::zero_gradient() const {
  if (leaf_) leaf_->has_gradient = false;
}

std::string Tensor::str() const {
  if (!defined()) return "Tensor(absent)";
  std::string text = "Tensor(";
  constexpr int64_t shown = 8;
  if (!storage_->resident()) {
    text += "evicted";
  } else {
    for (int64_t i = 0; i < std::min(elements(), shown); ++i) text += concat(i ? ", " : "", at(i));
    if (elements() > shown) text += ", ...";
  }
  return text + concat("; ", shape_, " ", name_of(dtype_), " on ", device().str(), ")");
}
std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << tensor.str(); }

}  // namespace parabola
