// IDX, the file format of MNIST and its family (Fashion-MNIST, KMNIST, ...): a big-endian header of two zero bytes, the
// element type, the number of axes and a 32-bit size per axis, then the elements.
// Source: http://yann.lecun.com/exdb/mnist
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace parabola {

// One IDX file of unsigned bytes, row-major.
struct IdxArray {
  std::vector<int64_t> sizes;
  std::vector<uint8_t> elements;
};

// Reads a file that must have `rank` axes, plain or compressed by gzip. UsageError: no such file. FormatError: bytes
// that are not IDX, another element type or rank, a size that cannot be, fewer or more bytes than the header says.
IdxArray read_idx(const std::string& path, int rank);

// Reads the pair `<stem>-images-idx3-ubyte`, `<stem>-labels-idx1-ubyte` of a folder (stem "train" or "t10k"), each also
// with the ending .gz and also spelled `-images.idx3-ubyte`. The images are grey. Errors as read_idx, and FormatError
// where the two files disagree or a label has no name in class_names.
DatasetPtr read_idx_pair(const std::string& folder, const std::string& stem, std::string name,
                         std::vector<std::string> class_names);

// Writes elements (as many as the product of sizes) as an IDX file of unsigned bytes, uncompressed. The file appears
// complete or not at all. UsageError: a place that cannot be written. Error: the disk is full.
void write_idx(const std::string& path, std::span<const int64_t> sizes, std::span<const uint8_t> elements);

// Writes grey images (size x height x width) and their labels under the names that read_idx_pair looks for. The folder
// must exist. Errors as write_idx.
void write_idx_pair(const std::string& folder, const std::string& stem, int height, int width,
                    std::span<const uint8_t> pixels, std::span<const uint8_t> labels);

}  // namespace parabola
