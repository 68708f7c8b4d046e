#include "engine/core/storage.h"

#include <doctest/doctest.h>

#include <utility>

namespace parabola::storage_test {

namespace {

// Counts how often a storage has lost its last Tensor.
struct CountingOwner final : StorageOwner {
  int calls = 0;
  Storage* last = nullptr;
  void unreferenced(Storage& storage) override {
    ++calls;
    last = &storage;
  }
};

std::shared_ptr<Storage> new_storage(size_t bytes) {
  return std::make_shared<Storage>(bytes, Device{}, Category::activations);
}

size_t live() { return Memory::of({}).live_bytes(Category::activations); }

}  // namespace

TEST_CASE("storage: evicting gives bytes back, restoring takes them again, both may be repeated") {
  const size_t before = live();
  {
    Storage storage(1000, {}, Category::activations);
    CHECK(storage.resident());
    CHECK(live() == before + 1000);
    storage.evict();
    storage.evict();
    CHECK_FALSE(storage.resident());
    CHECK(storage.data() == nullptr);
    CHECK(live() == before);
    storage.restore();
    std::byte* data = storage.data();
    storage.restore();
    CHECK(storage.data() == data);
    CHECK(live() == before + 1000);
    storage.evict();
  }
  CHECK(live() == before);
}

TEST_CASE("storage: a change of category moves the bytes of a resident one, and is remembered by an evicted one") {
  const size_t before = live(), parameters = Memory::of({}).live_bytes(Category::parameters);
  Storage storage(100, {}, Category::activations);
  storage.set_category(Category::parameters);
  CHECK(live() == before);
  CHECK(Memory::of({}).live_bytes(Category::parameters) == parameters + 100);
  storage.evict();
  storage.set_category(Category::activations);
  CHECK(live() == before);
  CHECK(Memory::of({}).live_bytes(Category::parameters) == parameters);
  storage.restore();
  CHECK(live() == before + 100);
  storage.evict();
}

TEST_CASE("storage handle: copies count, moves do not, and the owner hears of the last one") {
  CountingOwner owner;
  const auto storage = new_storage(8);
  storage->owner = &owner;
  {
    StorageHandle first(storage);
    CHECK(storage->handles() == 1);
    {
      const StorageHandle copy(first);
      CHECK(storage->handles() == 2);
    }
    CHECK(storage->handles() == 1);
    StorageHandle moved(std::move(first));
    CHECK(storage->handles() == 1);
    StorageHandle assigned;
    assigned = std::move(moved);
    CHECK(storage->handles() == 1);
    CHECK(owner.calls == 0);
    assigned = StorageHandle();
    CHECK(storage->handles() == 0);
    CHECK(owner.calls == 1);
    CHECK(owner.last == storage.get());
    assigned = StorageHandle(storage);  // it may come back
    CHECK(storage->handles() == 1);
  }
  CHECK(owner.calls == 2);
  storage->owner = nullptr;
}

TEST_CASE("storage handle: assigning one to itself changes nothing") {
  CountingOwner owner;
  const auto storage = new_storage(8);
  storage->owner = &owner;
  {
    StorageHandle handle(storage);
    StorageHandle& same = handle;
    handle = same;
    CHECK(handle);
    CHECK(storage->handles() == 1);
    handle = std::move(same);
    CHECK(handle);
    CHECK(storage->handles() == 1);
    CHECK(owner.calls == 0);
  }
  CHECK(owner.calls == 1);
  storage->owner = nullptr;
}

TEST_CASE("storage handle: assigning over the last handle of another storage lets that one go") {
  CountingOwner owner;
  const auto one = new_storage(8), two = new_storage(8);
  one->owner = two->owner = &owner;
  {
    StorageHandle handle(one);
    const StorageHandle other(two);
    handle = other;
    CHECK(owner.calls == 1);
    CHECK(owner.last == one.get());
    CHECK(two->handles() == 2);
  }
  CHECK(owner.calls == 2);
  one->owner = two->owner = nullptr;
}

TEST_CASE("storage handle: absent ones") {
  const StorageHandle none, copy(none);
  CHECK_FALSE(none);
  CHECK_FALSE(copy);
  CHECK(copy.shared() == nullptr);
}

}  // namespace parabola::storage_test
