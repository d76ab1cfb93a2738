#pragma once

#include <string>

#include "restkv/session.h"

namespace restkv::server {

/// All of a session's options in one text: two sessions that have read the same tokens know the
/// same if their keys are equal.
std::string session_key(const SessionOptions& options);

}  // namespace restkv::server
