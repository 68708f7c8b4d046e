#include "engine/core/storage.h"

namespace parabola {

Storage::Storage(size_t bytes, Device device, Category category) : bytes_(bytes), device_(device), category_(category) {
  restore();
}
Storage::~Storage() { evict(); }

void Storage::evict() {
  if (data_) Memory::of(device_).deallocate(data_, bytes_, category_);
  data_ = nullptr;
}

void Storage::restore() {
  if (!data_) data_ = Memory::of(device_).allocate(bytes_, category_);
}

void Storage::set_category(Category category) {
  if (data_) Memory::of(device_).recategorize(bytes_, category_, category);
  category_ = category;
}

}  // namespace parabola
