#include "eval/suites/infinitebench/uuid.h"

#include <fmt/format.h>

namespace restkv::eval {

std::string random_uuid(Random& random) {
  constexpr uint64_t kVersion4 = 0x4000;
  constexpr uint64_t kVariant = uint64_t{0b10} << 62;
  const uint64_t high = (random.bits() & ~uint64_t{0xF000}) | kVersion4;
  const uint64_t low = (random.bits() & ~(uint64_t{0b11} << 62)) | kVariant;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xFFFF,
                     high & 0xFFFF, low >> 48, low & 0xFFFFFFFFFFFF);
}

}  // namespace restkv::eval
