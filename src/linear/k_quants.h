#pragma once

#include <cstdint>

namespace restkv {

/// Scale and minimum, 6 bits each, of one of the eight parts of a Q4_K block, whose 12 bytes of
/// them begin at `packed`: the first four pairs have a byte for each, of the others the upper two
/// bits are above those of the first.
struct ScalePair {
  int scale, min;
};
inline ScalePair scale_pair(const uint8_t* packed, size_t part) {
  if (part < 4) return {packed[part] & 63, packed[part + 4] & 63};
  return {(packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4,
          packed[part + 4] >> 4 | (packed[part] >> 6) << 4};
}

}  // namespace restkv
