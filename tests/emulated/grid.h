// The emulated grid: runs CUDA kernels, compiled by g++, on the CPU, and counts them. What is wrong is found as well as
// on a chip and better: every byte of device memory has an owner that AddressSanitizer knows, shared memory is exactly
// as long as the launch said and starts as NaN, and threads that wait for each other at different places are named.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace parabola::emulated {

// The order in which threads of a block, and blocks of a grid, get their turns. A kernel that is right gives the same
// bits in any: one that lacks a barrier, or whose blocks get in each other's way, hardly does in both.
enum class Order : uint8_t { forward, reverse };
void set_order(Order order);

// How often each kernel was launched so far, by its address.
const std::map<const void*, int64_t>& launches();

// A kernel, or an instance of a template, that this program was linked with: "relu_forward" in
// "void parabola::(anonymous namespace)::relu_forward[abi:kernel]<float>(float const*, float*, long)".
struct Kernel {
  std::string name, full_name;
  const void* address;
};
// All of them, as `nm` finds them in the program. Error where nm cannot be run.
const std::vector<Kernel>& linked_kernels();
std::string name_of_kernel(const void* address);

// Names of the kernels that stand in the .cu and .cuh files below `folder`, one entry for every definition.
std::vector<std::string> kernels_in_sources(const std::string& folder);

// While it lives, the host may touch device memory; otherwise AddressSanitizer reports it, as a chip's driver would.
class OpenDeviceMemory {
 public:
  OpenDeviceMemory();
  ~OpenDeviceMemory();
  OpenDeviceMemory(const OpenDeviceMemory&) = delete;
  OpenDeviceMemory& operator=(const OpenDeviceMemory&) = delete;
};

constexpr int device_count = 2;
bool is_stream(const void* stream);
void set_memory_limit(size_t bytes);  // of each device, in bytes; the initial limit is 1 GiB

}  // namespace parabola::emulated
