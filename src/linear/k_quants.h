#pragma once

#include <cstdint>

namespace restkv {

/// Scale and min, 6 bits each, of one of the eight parts of a Q4_K or Q5_K block. All pairs take 12
/// bytes from `packed` on. Each number of the first four pairs has a byte; the upper two bits of
/// these bytes belong to the other four pairs.
struct ScalePair {
  int scale, min;
};
inline ScalePair scale_pair(const uint8_t* packed, size_t part) {
  if (part < 4) return {packed[part] & 63, packed[part + 4] & 63};
  return {(packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4,
          packed[part + 4] >> 4 | (packed[part] >> 6) << 4};
}

}  // namespace restkv
