// Storage: bytes on one device, the unit that is saved, evicted and replayed. Many tensors may view one storage.
#pragma once
#include <memory>

#include "engine/core/memory.h"

namespace parabola {

class Storage;

// Whoever can compute a storage's bytes again: the tape. The engine core knows it only by this interface.
class StorageOwner {
 public:
  virtual void unreferenced(Storage& storage) = 0;  // the last Tensor that showed these bytes is gone

 protected:
  ~StorageOwner() = default;
};

// What becomes of an op's results when nobody shows them any more. Save: they stay until backward has read them.
// Recompute: they go, and are replayed when backward asks. Automatic, where an op is marked: nothing is; in a storage:
// they stay while something is going to read them and the memory budget has room.
enum class Policy : uint8_t { automatic, save, recompute };

class Storage {
 public:
  Storage(size_t bytes, Device device, Category category);  // resident, contents undefined
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  Category category() const { return category_; }
  void set_category(Category category);

  bool resident() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }  // null where evicted
  void evict();                              // gives the bytes back; whoever owns the storage can restore them
  void restore();                            // allocates the bytes again, contents undefined

  // Counts mutations. A node remembers the version that it read; backward and replay refuse another one.
  uint64_t version = 0;

  // The tape's bookkeeping; see tape/tape.h. Untouched in storages that no tape made (parameters, batches).
  StorageOwner* owner = nullptr;
  int producer = -1;  // index of the node that computes it
  Policy policy = Policy::save;
  bool evictable = false;  // the memory budget may take the bytes before their last use
  int reads = 0;           // backward functions still to come that read it
  int live_consumers = 0;  // nodes that read it in a replay which may still be asked for
  int waiting = 0;         // of these, nodes that lack a result now, so that their replay is to come
  int locks = 0;           // somebody is reading it, or about to
  uint64_t last_use = 0;   // logical time: kernels run on the tape before
  int handles() const { return handles_; }
  bool dead() const { return handles_ == 0 && reads == 0 && live_consumers == 0; }  // nothing will read it again

 private:
  friend class StorageHandle;
  std::byte* data_ = nullptr;
  size_t bytes_;
  Device device_;
  Category category_;
  int handles_ = 0;  // Tensors of the user; the tape's own references do not count
};

// A counted reference held by a Tensor. When the last one goes, the owner decides what becomes of the bytes.
class StorageHandle {
 public:
  StorageHandle() = default;
  explicit StorageHandle(std::shared_ptr<Storage> storage) : storage_(std::move(storage)) { add(); }
  StorageHandle(const StorageHandle& other) : storage_(other.storage_) { add(); }
  StorageHandle(StorageHandle&& other) noexcept = default;
  StorageHandle& operator=(StorageHandle other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageHandle() {
    if (storage_ && --storage_->handles_ == 0 && storage_->owner) storage_->owner->unreferenced(*storage_);
  }
  explicit operator bool() const { return storage_ != nullptr; }
  Storage& operator*() const { return *storage_; }
  Storage* operator->() const { return storage_.get(); }
  const std::shared_ptr<Storage>& shared() const { return storage_; }

 private:
  void add() {
    if (storage_) ++storage_->handles_;
  }
  std::shared_ptr<Storage> storage_;
};

}  // namespace parabola
