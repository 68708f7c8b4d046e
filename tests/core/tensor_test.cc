#include "engine/core/tensor.h"

#include <doctest/doctest.h>

#include <sstream>

#include "engine/core/error.h"

namespace parabola::tensor_test {

namespace {

Tensor floats(const std::vector<float>& values, const Shape& shape) { return Tensor::from(values, shape); }
Tensor floats(const std::vector<float>& values) { return floats(values, {static_cast<int64_t>(values.size())}); }

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("tensor: from values, with their dtype") {
  const Tensor x = floats({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(x.defined());
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.dtype() == DType::f32);
  CHECK(x.device() == Device{});
  CHECK(x.elements() == 6);
  CHECK(x.bytes() == 24);
  CHECK(x.at(4) == 5);
  CHECK(x.to_vector<float>() == Floats{1, 2, 3, 4, 5, 6});
  CHECK(Tensor::from(std::vector<double>{0.5}, {}).item() == 0.5);
  CHECK(Tensor::from(std::vector<int32_t>{-7, 9}, {2}).at(0) == -7);
  CHECK(Tensor::from(std::vector<uint8_t>{255}, {1}).item() == 255);
  CHECK(Tensor::from(std::vector<double>{}, {0}).elements() == 0);
  CHECK_THROWS_WITH_AS(floats({1, 2, 3}, {2, 2}), "[tensor] got 3 values for shape [2, 2], expected 4", ShapeError);
}

TEST_CASE("tensor: full") {
  CHECK(Tensor::full({3}, 2.5).to_vector<float>() == Floats{2.5, 2.5, 2.5});
  CHECK(Tensor::full({2}, -1, DType::f64).to_vector<double>() == std::vector<double>{-1, -1});
  CHECK(Tensor::full({2}, 7, DType::i32).to_vector<int32_t>() == std::vector<int32_t>{7, 7});
  CHECK(Tensor::full({}, 3).item() == 3);
  CHECK(Tensor::full({2}, 1.5, DType::bf16).at(1) == 1.5);
  CHECK_THROWS_AS(Tensor::full({2}, 0, DType::u8), DTypeError);
}

TEST_CASE("tensor: reading the wrong dtype, outside of it, or more than one element") {
  const Tensor x = floats({1, 2});
  CHECK_THROWS_WITH_AS(x.data<double>(), "[tensor] elements are f32, but were read as f64", DTypeError);
  CHECK_THROWS_AS(x.to_vector<int32_t>(), DTypeError);
  CHECK_THROWS_WITH_AS(x.at(2), "[tensor] index 2 is outside of shape [2]", ShapeError);
  CHECK_THROWS_AS(x.at(-1), ShapeError);
  CHECK_THROWS_WITH_AS(x.item(), "[item] got shape [2], expected one element", ShapeError);
  CHECK(floats({4}, {1, 1, 1}).item() == 4);
  CHECK_THROWS_AS(floats({}, {0}).item(), ShapeError);
}

TEST_CASE("tensor: an absent one says so") {
  const Tensor none;
  CHECK_FALSE(none.defined());
  CHECK_FALSE(static_cast<bool>(none));
  CHECK(none.str() == "Tensor(absent)");
  CHECK_THROWS_WITH_AS(none.data<float>(), "[tensor] an absent tensor has no data", UsageError);
  CHECK_THROWS_AS(none.item(), UsageError);
  CHECK_THROWS_AS(floats({1}, {}).copy_from(none), UsageError);
  CHECK_THROWS_AS(none.copy_from(floats({1}, {})), UsageError);
  CHECK_THROWS_AS(none.clone(Category::inputs), UsageError);
  CHECK_THROWS_AS(none.device(), UsageError);
  CHECK_THROWS_AS(none.set_requires_gradient(true), UsageError);
  CHECK_FALSE(none.requires_gradient());
  CHECK_FALSE(none.gradient());
}

TEST_CASE("tensor: copying a tensor copies the handle; clone copies the bytes") {
  const Tensor x = floats({1, 2});
  const Tensor same = x, other = x.clone(Category::parameters);
  x.data<float>()[0] = 9;
  CHECK(same.at(0) == 9);
  CHECK(other.at(0) == 1);
  CHECK(other.storage()->category() == Category::parameters);
}

TEST_CASE("tensor: views share bytes") {
  const Tensor x = floats({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor row = x.view({3}, 3), corner = row.view({}, 1);
  CHECK(row.to_vector<float>() == Floats{4, 5, 6});
  CHECK(corner.item() == 5);
  corner.data<float>()[0] = -5;
  CHECK(x.at(4) == -5);
  CHECK(x.view({3, 2}).to_vector<float>() == x.to_vector<float>());
  CHECK(x.view({0}, 6).elements() == 0);
  CHECK_THROWS_WITH_AS(x.view({4}, 3), "[view] got shape [4] at 3, which is not inside of [2, 3]", ShapeError);
  CHECK_THROWS_AS(x.view({7}), ShapeError);
  CHECK_THROWS_AS(row.view({4}), ShapeError);  // x has more, but the row has not
  CHECK_THROWS_AS(x.view({1}, -1), ShapeError);
  CHECK_THROWS_AS(x.view({1}, INT64_MAX), ShapeError);
}

TEST_CASE("tensor: copy_from copies or converts into the bytes that are there, and counts as a change") {
  const Tensor x = floats({1, 2, 3});
  const std::byte* bytes = x.raw();
  const uint64_t version = x.storage()->version;
  x.copy_from(floats({4, 5, 6}));
  CHECK(x.to_vector<float>() == Floats{4, 5, 6});
  CHECK(x.storage()->version == version + 1);
  x.copy_from(Tensor::from(std::vector<double>{0.1, 0.2, 0.3}, {3}));
  CHECK(x.to_vector<float>() == Floats{0.1F, 0.2F, 0.3F});
  CHECK(x.raw() == bytes);
  CHECK(x.storage()->version == version + 2);
  CHECK_THROWS_WITH_AS(x.copy_from(floats({1, 2})), "[copy] got [2], expected [3]", ShapeError);
  CHECK_THROWS_AS(x.copy_from(floats({1, 2, 3}, {3, 1})), ShapeError);
  CHECK_THROWS_AS(x.copy_from(Tensor::full({3}, 1, DType::i32)), DTypeError);
  CHECK(x.storage()->version == version + 2);  // a refused copy changes nothing
  CHECK(x.to_vector<float>() == Floats{0.1F, 0.2F, 0.3F});
}

TEST_CASE("tensor: copy_from its own bytes, also where they overlap") {
  const Tensor x = floats({1, 2, 3, 4});
  x.copy_from(x);
  CHECK(x.to_vector<float>() == Floats{1, 2, 3, 4});
  x.view({3}, 1).copy_from(x.view({3}));
  CHECK(x.to_vector<float>() == Floats{1, 1, 2, 3});
}

TEST_CASE("tensor: conversion between floating dtypes") {
  const Tensor x = floats({0.1F, -2});
  const Tensor wide = x.to(DType::f64, Category::inputs);
  CHECK(wide.to_vector<double>() == std::vector<double>{static_cast<double>(0.1F), -2});
  CHECK(wide.to(DType::f32, Category::inputs).to_vector<float>() == x.to_vector<float>());
  CHECK(floats({1.00390625F, -3}).to(DType::bf16, Category::inputs).at(0) == 1);  // 7 bits of fraction: a tie to even
  CHECK(floats({1.0009765625F, -3}).to(DType::f16, Category::inputs).at(0) == 1.0009765625);
  CHECK(wide.to(DType::f16, Category::inputs).to(DType::f64, Category::inputs).at(1) == -2);
  CHECK_THROWS_AS(x.to(DType::i32, Category::inputs), DTypeError);
}

TEST_CASE("tensor: the largest shapes are refused, never wrapped around to few bytes") {
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 59}, DType::f64), MemoryError);
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 59}, DType::u8), MemoryError);
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 30, int64_t{1} << 31}, DType::f64), ShapeError);
}

TEST_CASE("leaf: all copies share the mark and the gradient") {
  const Tensor weight = floats({1, 2});
  CHECK_FALSE(weight.requires_gradient());
  weight.set_requires_gradient(true);
  const Tensor copy = weight;
  CHECK(copy.requires_gradient());
  CHECK_FALSE(copy.gradient());
  weight.leaf()->gradient = floats({3, 4});
  weight.leaf()->has_gradient = true;
  CHECK(copy.gradient().to_vector<float>() == Floats{3, 4});
  copy.zero_gradient();
  CHECK_FALSE(weight.gradient());
  weight.leaf()->has_gradient = true;
  copy.set_requires_gradient(false);
  CHECK_FALSE(weight.requires_gradient());
  CHECK_FALSE(weight.gradient());
  weight.set_requires_gradient(true);
  CHECK_FALSE(weight.gradient());  // the old one does not come back
}

TEST_CASE("leaf: views and clones are tensors of their own") {
  const Tensor weight = floats({1, 2});
  weight.set_requires_gradient(true);
  CHECK_FALSE(weight.view({1}).requires_gradient());
  CHECK_FALSE(weight.clone(Category::inputs).requires_gradient());
}

TEST_CASE("leaf: only tensors of floating point have gradients") {
  const Tensor labels = Tensor::full({2}, 1, DType::i32);
  CHECK_THROWS_WITH_AS(labels.set_requires_gradient(true),
                       "[tensor] got dtype i32, expected a floating one for a gradient", DTypeError);
  CHECK_NOTHROW(labels.set_requires_gradient(false));
}

TEST_CASE("tensor: printing shows values, shape, dtype and device") {
  CHECK(floats({1, 2.5F, -3}, {3, 1}).str() == "Tensor(1, 2.5, -3; [3, 1] f32 on cpu)");
  CHECK(Tensor::full({}, 2, DType::i32).str() == "Tensor(2; [] i32 on cpu)");
  CHECK(Tensor::full({3, 3}, 0, DType::f64).str() == "Tensor(0, 0, 0, 0, 0, 0, 0, 0, ...; [3, 3] f64 on cpu)");
  CHECK(Tensor::empty({0}).str() == "Tensor(; [0] f32 on cpu)");
  CHECK(Tensor::full({2}, -0.5, DType::bf16).str() == "Tensor(-0.5, -0.5; [2] bf16 on cpu)");
  std::ostringstream out;
  out << floats({7}, {});
  CHECK(out.str() == "Tensor(7; [] f32 on cpu)");
  const Tensor gone = floats({7});
  gone.storage()->evict();
  CHECK(gone.str() == "Tensor(evicted; [1] f32 on cpu)");
  CHECK_THROWS_AS(gone.item(), UsageError);
}

}  // namespace parabola::tensor_test
