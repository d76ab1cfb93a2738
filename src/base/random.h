#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

namespace restkv {

/// Random choices that are the same on every platform. std::mt19937_64 gives the same bits
/// everywhere; the distributions, std::shuffle and std::sample do not, so this class replaces them.
/// The bias of the remainder is below 2^-40 for ranges up to 2^24.
class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}
  /// An independent stream for part `index` of `name`, seeded by FNV-1a over both and the seed. A
  /// part does not depend on the other parts that are made.
  Random(uint64_t seed, std::string_view name, uint64_t index) : bits_(mix(seed, name, index)) {}

  uint64_t bits() { return bits_(); }
  /// 0 to n - 1.
  size_t below(size_t n) { return static_cast<size_t>(bits_() % n); }
  /// low to high, both included.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<size_t>(high - low) + 1));
  }
  /// One element of a non-empty array, span or vector.
  const auto& pick(const auto& items) { return items[below(std::size(items))]; }

  void shuffle(auto& items) {
    for (size_t i = std::size(items); i > 1; --i) {
      const size_t j = below(i);
      std::swap(items[i - 1], items[j]);
    }
  }
  /// `count` different numbers below `n`, in random order; count <= n.
  std::vector<size_t> sample(size_t n, size_t count) {
    std::vector<size_t> numbers(n);
    for (size_t i = 0; i < n; ++i) numbers[i] = i;
    for (size_t i = 0; i < count; ++i) {
      const size_t j = i + below(n - i);
      std::swap(numbers[i], numbers[j]);
    }
    numbers.resize(count);
    return numbers;
  }

 private:
  static uint64_t mix(uint64_t seed, std::string_view name, uint64_t index) {
    uint64_t hash = 0xCBF29CE484222325;
    const auto add = [&](uint64_t byte) { hash = (hash ^ byte) * 0x100000001B3; };
    for (const char c : name) add(static_cast<unsigned char>(c));
    for (const uint64_t number : {seed, index}) {
      for (int shift = 0; shift < 64; shift += 8) add(number >> shift & 0xFF);
    }
    return hash;
  }

  std::mt19937_64 bits_;
};

}  // namespace restkv
