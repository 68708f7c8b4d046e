// Chapter 7. Weights from a file
//
// At the end of this chapter you know what is in a safetensors file, how a model takes its weights from one, and what
// strict loading says about a file that does not fit. A weight that is silently left out makes a model that works
// badly and says nothing.
#include <cstdio>

#include "engine/io/safetensors.h"
#include "engine/ops/relu.h"
#include "layers/weights.h"

using namespace parabola;

// Two layers. add() gives each a name; names join with dots: "hidden.weight".
class Net final : public Module {
 public:
  Net() {
    add("hidden", hidden_);
    add("out", out_);
  }

 private:
  Tensor forward(const Tensor& x) override { return out_(relu(hidden_(x))); }
  Linear hidden_{2, 3}, out_{3, 1};
};

// A file as another program would write it: names, shapes, numbers, and notes in words. This net says |u - v|.
std::vector<TensorData> difference_of_two() {
  static const float hidden[] = {1, -1, -1, 1, 0, 0}, zeros[] = {0, 0, 0}, ones[] = {1, 1, 1};
  return {{"hidden.weight", DType::f32, {3, 2}, hidden},
          {"hidden.bias", DType::f32, {3}, zeros},
          {"out.weight", DType::f32, {1, 3}, ones},
          {"out.bias", DType::f32, {1}, zeros}};
}

int main() {
  std::vector<TensorData> tensors = difference_of_two();
  write_safetensors("net.safetensors", tensors, {{"made_by", "chapter 7"}});

  // What lies in a file is known before a number is read: its header is a table.
  const Safetensors file("net.safetensors");
  std::printf("net.safetensors, made by %s:\n", file.metadata().at("made_by").c_str());
  for (const TensorEntry& entry : file.entries())
    std::printf("  %-14s %s %s\n", entry.name.c_str(), std::string(name_of(entry.dtype)).c_str(),
                entry.shape.str().c_str());

  Net net;
  net.initialize(7);
  load_weights(net, file);
  const Tensor x = Tensor::from<float>(std::vector<float>{5, 3, 3, 5, 4, 4}, {3, 2});
  std::printf("|u - v| of (5, 3), (3, 5), (4, 4): %s\n", net(x).str().c_str());

  // Three things wrong at once. The message counts and names them all, and the net is still what it was.
  tensors.pop_back();                                                  // out.bias is missing
  tensors[1].shape = {1, 3};                                           // hidden.bias is a matrix
  tensors.push_back({"out.scale", DType::f32, {1}, tensors[1].data});  // nobody knows this one
  write_safetensors("wrong.safetensors", tensors, {});
  try {
    load_weights(net, "wrong.safetensors");
  } catch (const FormatError& error) {
    std::printf("%s\n", error.what());
  }

  // A head for other classes is missing on purpose: say so, by a pattern, and it keeps its random start.
  tensors = difference_of_two();
  tensors.resize(2);
  write_safetensors("body.safetensors", tensors, {});
  load_weights(net, "body.safetensors", {.allow_missing = {"out.*"}});
  std::printf("body.safetensors: loaded without out.*, which was allowed to be missing\n");

  // And back: what a model writes, in PyTorch's layouts, is what it reads.
  save_weights(net, "saved.safetensors", {});
  Net again;
  load_weights(again, "saved.safetensors");
  std::printf("saved and loaded again: %s outputs\n",
              again(x).to_vector<float>() == net(x).to_vector<float>() ? "the same" : "DIFFERENT");
}

// Exercise: truncate net.safetensors by one byte, and see what Safetensors says of it.

// clang-format off
// Prints:
//   net.safetensors, made by chapter 7:
//     hidden.bias    F32 [3]
//     hidden.weight  F32 [3, 2]
//     out.bias       F32 [1]
//     out.weight     F32 [1, 3]
//   |u - v| of (5, 3), (3, 5), (4, 4): Tensor(2, 2, 0; [3, 1] f32 on cpu)
//   wrong.safetensors: tensors do not fit the model: 1 missing (out.bias); 1 unexpected (out.scale); 1 of another shape (hidden.bias: got [1, 3], expected [3]), expected exactly the model's 4 tensors
//   body.safetensors: loaded without out.*, which was allowed to be missing
//   saved and loaded again: the same outputs
