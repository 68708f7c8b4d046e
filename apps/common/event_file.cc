#include "apps/common/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/core/error.h"

namespace parabola {
namespace {

namespace fs = std::filesystem;
constexpr size_t head_bytes = 12, tail_bytes = 4;  // of a record

// Little-endian on every machine that this is built for.
static_assert(std::endian::native == std::endian::little);
template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
template <class T>
T read(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

uint32_t masked_crc(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

// ---- Protocol buffers: a field is its number and wire type, then the value.
enum Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
std::string as_varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string key(int field, Wire wire) { return as_varint(static_cast<uint64_t>(field) << 3 | wire); }
std::string text_field(int field, std::string_view text) {
  return key(field, bytes) + as_varint(text.size()) + std::string(text);
}
std::string event_at(int64_t step) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return key(1, fixed64) + raw(now) + key(2, varint) + as_varint(static_cast<uint64_t>(step));
}

// The step of an event as event_at() wrote it.
uint64_t step_of(std::string_view event) {
  uint64_t step = 0;
  constexpr size_t begin = 10;  // behind key, time and key
  for (size_t i = begin, shift = 0; i < event.size() && shift < 64; ++i, shift += 7) {
    step |= (static_cast<uint64_t>(event[i]) & 0x7f) << shift;
    if (!(event[i] & 0x80)) break;
  }
  return step;
}

// Cuts off what a file says of steps after `done`, and a record that a kill left incomplete; a file with nothing left
// but the first record, its version, goes.
void cut(const fs::path& path, uint64_t done) {
  std::ifstream in(path, std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  size_t keep = 0, records = 0;
  for (std::string_view rest = data; rest.size() >= head_bytes + tail_bytes; ++records) {
    const auto length = read<uint64_t>(rest);
    if (length > rest.size() - head_bytes - tail_bytes || step_of(rest.substr(head_bytes, length)) > done) break;
    rest.remove_prefix(head_bytes + length + tail_bytes);
    keep = data.size() - rest.size();
  }
  if (records <= 1)
    fs::remove(path);
  else if (keep < data.size())
    fs::resize_file(path, keep);
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = ~0U;
  for (const char c : data) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
  }
  return ~crc;
}

EventFile::EventFile(const std::string& folder, int64_t done) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("events.out.tfevents.") && name.ends_with(".parabola"))
      cut(entry.path(), static_cast<uint64_t>(done));
  }
  // TensorBoard reads the files of a folder in the order of their names.
  char name[64];
  std::snprintf(name, sizeof name, "/events.out.tfevents.%010lld.parabola", static_cast<long long>(done));
  path_ = folder + name;
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0)
    throw UsageError(concat(printable(path_), ": ", std::strerror(errno), ", expected a file that can be written"));
  write(event_at(0) + text_field(3, "brain.Event:2"));
  constexpr uint64_t start = 1;  // SessionLog.status
  if (done > 0) write(event_at(done + 1) + text_field(7, key(1, varint) + as_varint(start)));
}

EventFile::~EventFile() {
  if (file_ >= 0) ::close(file_);
}

void EventFile::add(int64_t step, std::initializer_list<std::pair<std::string_view, double>> scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary += text_field(1, text_field(1, tag) + key(2, fixed32) + raw(static_cast<float>(value)));
  write(event_at(step) + text_field(5, summary));
}

void EventFile::write(const std::string& event) {
  const std::string length = raw(static_cast<uint64_t>(event.size()));
  const std::string record = length + raw(masked_crc(length)) + event + raw(masked_crc(event));
  for (size_t done = 0; done < record.size();) {
    const ssize_t count = ::write(file_, record.data() + done, record.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw Error(concat(printable(path_), ": cannot be written: ", std::strerror(errno)));
    done += static_cast<size_t>(count);
  }
}

}  // namespace parabola
