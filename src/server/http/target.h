#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"

namespace restkv::server {

/// What a request asks for.
struct Target {
  std::string path = "/";  ///< As `HttpRequest::path`; "*" for what the server as a whole offers.
  std::vector<std::string> segments;  ///< Of the path, decoded; none is empty.
  Fields query;
  std::string authority;  ///< Host and port of a target that names them; empty otherwise.
};

/// The target of a request's first line: "/path?query", "http://host/path" or "*". Throws
/// `HttpError` (400) for any other, bad percent escapes, what is no UTF-8, control characters in
/// the path, and dot segments that lead out of the root or hide behind "%2F".
Target parse_target(std::string_view target);

}  // namespace restkv::server
