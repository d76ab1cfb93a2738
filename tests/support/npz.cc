#include "support/npz.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>

namespace restkv::testing {
namespace {

/// A byte string with bounds-checked little-endian reads.
class Bytes {
 public:
  Bytes(std::string_view data, std::string file) : data_(data), file_(std::move(file)) {}

  [[nodiscard]] std::string_view at(size_t offset, size_t size) const {
    if (offset > data_.size() || size > data_.size() - offset) fail("is cut short");
    return data_.substr(offset, size);
  }
  template <class T>
  [[nodiscard]] T read(size_t offset) const {
    T value;
    std::memcpy(&value, at(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(file_ + " " + what);
  }

 private:
  std::string_view data_;
  std::string file_;
};

std::string_view between(std::string_view text, std::string_view open, std::string_view close,
                         const Bytes& bytes) {
  const size_t begin = text.find(open);
  if (begin == std::string_view::npos) bytes.fail("lacks " + std::string(open));
  const size_t end = text.find(close, begin + open.size());
  if (end == std::string_view::npos) bytes.fail("has a broken array header");
  return text.substr(begin + open.size(), end - begin - open.size());
}

Array read_npy(const Bytes& bytes, size_t offset, size_t size) {
  if (bytes.at(offset, 8) != std::string_view("\x93NUMPY\x01\x00", 8)) {
    bytes.fail("holds a member that is not .npy 1.0");
  }
  const size_t header_size = bytes.read<uint16_t>(offset + 8);
  const std::string_view header = bytes.at(offset + 10, header_size);
  if (header.find("'fortran_order': False") == std::string_view::npos) {
    bytes.fail("holds an array that is not in C order");
  }
  Array array;
  std::string_view shape = between(header, "'shape': (", ")", bytes);
  while (!shape.empty()) {
    const size_t comma = std::min(shape.find(','), shape.size());
    if (shape.find_first_of("0123456789") < comma) {
      array.shape.push_back(std::stoul(std::string(shape.substr(0, comma))));
    }
    shape.remove_prefix(std::min(comma + 1, shape.size()));
  }

  const std::string_view type = between(header, "'descr': '", "'", bytes);
  const size_t item = type == "|i1" ? 1 : 4;
  const size_t count = array.size();
  if (10 + header_size + count * item != size) bytes.fail("holds an array of the wrong size");
  const std::string_view data = bytes.at(offset + 10 + header_size, count * item);
  if (type == "<f4") {
    array.floats.resize(count);
    std::memcpy(array.floats.data(), data.data(), data.size());
  } else if (type == "<i4") {
    array.ints.resize(count);
    std::memcpy(array.ints.data(), data.data(), data.size());
  } else if (type == "|i1") {
    for (const char c : data) array.ints.push_back(static_cast<signed char>(c));
  } else {
    bytes.fail("holds an array of type " + std::string(type));
  }
  return array;
}

}  // namespace

Arrays read_npz(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  const Bytes bytes(content, path.string());

  // The record at the end gives the place of the central directory, which lists the members.
  constexpr std::string_view kEndRecord("PK\x05\x06", 4);
  constexpr std::string_view kDirectoryEntry("PK\x01\x02", 4);
  const size_t end = content.rfind(kEndRecord);
  if (end == std::string::npos) bytes.fail("is not a zip file");
  const size_t members = bytes.read<uint16_t>(end + 10);
  size_t entry = bytes.read<uint32_t>(end + 16);
  Arrays arrays;
  for (size_t m = 0; m < members; ++m) {
    if (bytes.at(entry, 4) != kDirectoryEntry) bytes.fail("has a broken directory");
    if (bytes.read<uint16_t>(entry + 10) != 0) bytes.fail("holds a compressed member");
    const size_t size = bytes.read<uint32_t>(entry + 24);
    const size_t name_size = bytes.read<uint16_t>(entry + 28);
    const size_t tail = size_t{bytes.read<uint16_t>(entry + 30)} + bytes.read<uint16_t>(entry + 32);
    const size_t local = bytes.read<uint32_t>(entry + 42);
    std::string name(bytes.at(entry + 46, name_size));
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    // The local header repeats the name and has an extra field of its own length.
    const size_t data =
        local + 30 + bytes.read<uint16_t>(local + 26) + bytes.read<uint16_t>(local + 28);
    arrays.emplace(name, read_npy(bytes, data, size));
    entry += 46 + name_size + tail;
  }
  return arrays;
}

}  // namespace restkv::testing
