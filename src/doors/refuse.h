#pragma once

#include <string>

#include "restkv/error.h"

namespace restkv::doors {

/// For a caller's argument that cannot be used.
[[noreturn]] inline void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

}  // namespace restkv::doors
