#include "base/bytes.h"

#include <fmt/format.h>

#include "restkv/error.h"

namespace restkv {

void ByteReader::fail(std::string_view what) const {
  throw Error(ErrorCode::kInput, fmt::format("{}: is damaged: {}", name_, what));
}

}  // namespace restkv
