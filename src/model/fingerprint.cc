#include "model/fingerprint.h"

#include <algorithm>
#include <cstddef>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv {

uint64_t fingerprint(std::string_view description, std::span<const std::string_view> files) {
  constexpr size_t kBlocks = 64;
  constexpr size_t kBlockBytes = 1UL << 14U;
  uint64_t hash = XXH3_64bits(description.data(), description.size());
  for (const std::string_view file : files) {
    const size_t last = file.size() - std::min(file.size(), kBlockBytes);
    for (size_t i = 0; i < kBlocks; ++i) {
      const std::string_view block = file.substr(last / (kBlocks - 1) * i, kBlockBytes);
      hash = XXH3_64bits_withSeed(block.data(), block.size(), hash);
    }
    const std::string_view end = file.substr(last);
    hash = XXH3_64bits_withSeed(end.data(), end.size(), hash);
  }
  return hash;
}

}  // namespace restkv
