#pragma once

#include <string>

#include "server/http/message.h"

namespace restkv::server {

/// The name of a request in its answer's header and in the log.
inline constexpr const char* kRequestIdField = "X-Request-Id";

/// What the client calls it, if that is up to 128 letters, digits and -_.: and so fit for a log;
/// otherwise a new one, "req-" and 32 hexadecimal digits.
std::string request_id_of(const Headers& headers);
/// A new one.
std::string make_request_id();

}  // namespace restkv::server
