// Locks on storages: what somebody is reading, or about to, is not evicted.
#pragma once
#include <utility>

#include "engine/tape/tape.h"

namespace parabola {

// Holds its locks until its scope ends, however that ends. What has lost its last use meanwhile goes then.
class Locks {
 public:
  explicit Locks(Tape& tape) : tape_(tape) {}
  ~Locks() {
    for (Storage* storage : storages_) --storage->locks;
    tape_.settle(std::move(storages_));
  }
  Locks(const Locks&) = delete;
  Locks& operator=(const Locks&) = delete;

  void add(Storage& storage) {  // of this tape
    storages_.push_back(&storage);
    ++storage.locks;
    tape_.use(storage);
  }

 private:
  Tape& tape_;
  std::vector<Storage*> storages_;
};

}  // namespace parabola
