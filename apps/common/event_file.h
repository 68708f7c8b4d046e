// Scalars of a run for TensorBoard: a file events.out.tfevents.STEP.parabola in the run's folder.
//
// The format, from the descriptions of TFRecord and of TensorFlow's event.proto and summary.proto: each record is
//   length (8 bytes), masked CRC-32C of these, data, masked CRC-32C of the data (4 bytes each, little-endian)
// and its data an Event: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), session_log = 7, or
// summary = 5 with values {tag = 1, simple_value = 2 (float)}.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace parabola {

uint32_t crc32c(std::string_view data);  // Castagnoli's polynomial

class EventFile {
 public:
  // Begins a file for what follows step `done`. What earlier files of the folder say of later steps (a run that was
  // killed after its last state) is cut off, so that nothing is drawn twice; a resumed run begins with the mark at
  // which a TensorBoard that looks on forgets it too. UsageError: the file cannot be made.
  EventFile(const std::string& folder, int64_t done);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // One record, handed to the system before it returns: a kill loses no more than this one. Error: disk full.
  void add(int64_t step, std::initializer_list<std::pair<std::string_view, double>> scalars);

 private:
  void write(const std::string& event);
  std::string path_;
  int file_ = -1;
};

}  // namespace parabola
