// Fuzz target of the safetensors header and the index of shards, both from memory:
//     clang++ -std=c++20 -g -O1 -I. -fsanitize=fuzzer,address,undefined tests/fuzz/safetensors_fuzz.cc \
//         engine/io/{file_dtype,input_file,safetensors_header,sharded_index,strict_json}.cc
//         engine/core/{error,shape}.cc \ -o build/safetensors_fuzz && build/safetensors_fuzz -max_total_time=60
// Any exception but FormatError, any sanitizer report and any broken invariant is a find.
#include <cstddef>
#include <cstdint>

#include "tests/io/safetensors_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size < 8) return 0;
  // The input as it is, as the header of a file without data, and as an index: what the mutator learns of JSON serves
  // all.
  const std::string header = parabola::safetensors_image(bytes);
  for (const parabola::Verdict verdict :
       {parabola::judge_file(bytes), parabola::judge_file(header), parabola::judge_index(bytes)}) {
    if (verdict == parabola::Verdict::broken) __builtin_trap();
  }
  return 0;
}
