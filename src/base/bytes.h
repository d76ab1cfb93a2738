#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace restkv {

static_assert(std::endian::native == std::endian::little,
              "files hold little-endian numbers, which are copied as they lie in memory");

template <class T>
concept Number = std::is_arithmetic_v<T> || std::is_same_v<T, std::byte>;

/// Writes little-endian numbers, arrays (the length as a 64-bit number, then the elements) and
/// texts to `sink`.
class ByteWriter {
 public:
  explicit ByteWriter(std::function<void(std::string_view)> sink) : sink_(std::move(sink)) {}

  template <Number T>
  void number(T value) {
    bytes(&value, sizeof value);
  }
  template <Number T>
  void array(std::span<const T> values) {
    number<uint64_t>(values.size());
    bytes(values.data(), values.size_bytes());
  }
  void text(std::string_view text) { array(std::span(text)); }

 private:
  void bytes(const void* data, size_t size) { sink_({static_cast<const char*>(data), size}); }

  std::function<void(std::string_view)> sink_;
};

/// Reads the output of a `ByteWriter`. A length beyond the end throws `Error` (kInput) with the
/// file's name before memory is allocated for it.
class ByteReader {
 public:
  /// `name` is the file's, for messages. `bytes` must outlive the reader.
  ByteReader(std::string name, std::string_view bytes) : name_(std::move(name)), rest_(bytes) {}

  template <Number T>
  T number() {
    T value;
    std::memcpy(&value, take(1, sizeof value), sizeof value);
    return value;
  }
  /// Replaces `out`, a vector of numbers.
  template <class Vector>
  void array(Vector& out) {
    constexpr size_t kSize = sizeof(typename Vector::value_type);
    const auto count = number<uint64_t>();
    const char* data = take(count, kSize);
    out.resize(count);
    if (count > 0) std::memcpy(out.data(), data, count * kSize);
  }
  std::string text() {
    std::string text;
    array(text);
    return text;
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  /// Throws `Error` (kInput): the contents of the file are inconsistent.
  [[noreturn]] void fail(std::string_view what) const;
  void expect(bool condition, std::string_view what) const {
    if (!condition) fail(what);
  }

 private:
  const char* take(uint64_t count, size_t size) {
    expect(count <= rest_.size() / size, "it ends early");
    const char* data = rest_.data();
    rest_.remove_prefix(count * size);
    return data;
  }

  std::string name_;
  std::string_view rest_;
};

}  // namespace restkv
