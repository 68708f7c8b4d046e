// Chapter 2. Tensors and broadcasting
//
// At the end of this chapter you know what a tensor is made of, when two of different shapes can be added, and what the
// gradient of a value is that was used many times without being written so.
#include <cstdio>
#include <vector>

#include "engine/ops/binary.h"
#include "engine/ops/reduce.h"
#include "engine/ops/slice.h"
#include "engine/ops/view.h"
#include "engine/tape/tape.h"

using namespace parabola;

void show(const char* what, const Tensor& tensor) { std::printf("%-18s%s\n", what, tensor.str().c_str()); }

int main() {
  // A tensor is a handle: bytes, a shape to read them by, an element type. The last axis varies fastest.
  const Tensor x = Tensor::from<float>(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  show("x", x);

  // Copies and reshapes look at the same bytes; nothing moves.
  const Tensor row = reshape(x, {6});
  x.data<float>()[0] = 10;
  show("x seen as a row", row);
  show("its second row", slice(x, 0, 1, 2));

  // Broadcasting: shapes are laid over each other from the right. Sizes must be equal, or one of them 1; that one is
  // repeated, but not in memory.
  const Tensor per_column = Tensor::from<float>(std::vector<float>{100, 200, 300}, {3});
  const Tensor per_row = Tensor::from<float>(std::vector<float>{1, -1}, {2, 1});
  show("x + [3]", x + per_column);
  show("x * [2, 1]", x * per_row);
  show("[3] * [2, 1]", per_column * per_row);

  // What does not fit is an error in one line that says what was got and what was expected.
  try {
    add(x, Tensor::full({2}, 1));
  } catch (const ShapeError& error) {
    std::printf("x + [2]: %s\n", error.what());
  }

  // Reductions do the opposite. With `keep` the axis stays with size 1, so the result broadcasts against what it came
  // from: this takes each row's mean out.
  show("mean of each row", mean(x, {1}, true));
  show("centred", x - mean(x, {1}, true));

  // The gradient of a value that was repeated: one part from every place where it went, added up. Broadcasting forward
  // is summing backward, over just the axes that were repeated; and summing forward is broadcasting backward.
  per_column.set_requires_gradient(true);
  per_row.set_requires_gradient(true);
  Tape tape;
  tape.backward(sum(x * per_row + per_column));
  show("d/d[3]: 2 rows", per_column.gradient());
  show("d/d[2, 1]: sum x", per_row.gradient());
}

// Exercise: standardise the columns of x (mean 0, standard deviation 1) with mean, square and sqrt, without a loop.

// Prints:
//   x                 Tensor(1, 2, 3, 4, 5, 6; [2, 3] f32 on cpu)
//   x seen as a row   Tensor(10, 2, 3, 4, 5, 6; [6] f32 on cpu)
//   its second row    Tensor(4, 5, 6; [1, 3] f32 on cpu)
//   x + [3]           Tensor(110, 202, 303, 104, 205, 306; [2, 3] f32 on cpu)
//   x * [2, 1]        Tensor(10, 2, 3, -4, -5, -6; [2, 3] f32 on cpu)
//   [3] * [2, 1]      Tensor(100, 200, 300, -100, -200, -300; [2, 3] f32 on cpu)
//   x + [2]: [add] shapes do not broadcast: got [2, 3] and [2], expected trailing sizes that are equal or 1
//   mean of each row  Tensor(5, 5; [2, 1] f32 on cpu)
//   centred           Tensor(5, -3, -2, -1, 0, 1; [2, 3] f32 on cpu)
//   d/d[3]: 2 rows    Tensor(2, 2, 2; [3] f32 on cpu)
//   d/d[2, 1]: sum x  Tensor(15, 15; [2, 1] f32 on cpu)
