#include "engine/core/op.h"

#include <doctest/doctest.h>

namespace parabola::op_test {

namespace {

struct Geometry {
  int stride = 1, padding = 0;
  double scale = 1;
};
struct Largest {
  std::byte bytes[192];
};

}  // namespace

TEST_CASE("attributes: hold a struct by value, and refuse to be read as another one") {
  Geometry geometry{2, 3, 0.5};
  const Attributes attributes = geometry;
  geometry.stride = 7;
  CHECK(attributes.get<Geometry>().stride == 2);
  CHECK(attributes.get<Geometry>().scale == 0.5);
  const Attributes copy = attributes;
  CHECK(copy.get<Geometry>().padding == 3);
  CHECK_THROWS_AS(copy.get<int>(), std::logic_error);
  CHECK_THROWS_AS(Attributes().get<Geometry>(), std::logic_error);
  Largest largest{};
  largest.bytes[191] = std::byte{42};
  CHECK(Attributes(largest).get<Largest>().bytes[191] == std::byte{42});
}

TEST_CASE("signature: shapes, dtypes, absent inputs, wanted gradients") {
  const std::vector<TensorSpec> specs = {{Shape{2, 3}, DType::f64}, {.present = false}};
  const Attributes none;
  const Signature signature{none, specs, 2};
  CHECK(signature.shape(0) == Shape{2, 3});
  CHECK(signature.dtype() == DType::f64);
  CHECK(signature.has(0));
  CHECK_FALSE(signature.has(1));
  CHECK_FALSE(signature.has(2));
  CHECK_FALSE(signature.wants_gradient(0));
  CHECK(signature.wants_gradient(1));
  CHECK(specs[0].bytes() == 48);
  CHECK(specs[1].bytes() == 0);
}

TEST_CASE("policy scope: nests, and ends with its block, also by an exception") {
  CHECK(PolicyScope::current() == Policy::automatic);
  try {
    const PolicyScope save(Policy::save);
    {
      const PolicyScope recompute(Policy::recompute);
      CHECK(PolicyScope::current() == Policy::recompute);
    }
    CHECK(PolicyScope::current() == Policy::save);
    throw 1;
  } catch (int) {
  }
  CHECK(PolicyScope::current() == Policy::automatic);
}

TEST_CASE("dispatch: floating dtypes of the CPU; any other is a DTypeError that names the op") {
  size_t size = 0;
  const auto body = [&]<class T>() { size = sizeof(T); };
  dispatch_float(DType::f32, "gelu", body);
  CHECK(size == 4);
  dispatch_float(DType::f64, "gelu", body);
  CHECK(size == 8);
  for (DType other : {DType::bf16, DType::f16, DType::i32, DType::u8})
    CHECK_THROWS_AS(dispatch_float(other, "gelu", body), DTypeError);
  CHECK_THROWS_WITH(dispatch_float(DType::i32, "gelu", body),
                    "[gelu] dtype not supported on the CPU: got i32, expected f32 or f64");
  CHECK(Device{DeviceKind::cuda, 2}.str() == "cuda:2");
}

}  // namespace parabola::op_test
