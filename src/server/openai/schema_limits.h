#pragma once

#include <string>

#include "base/json.h"

namespace restkv::server {

/// Throws `HttpError` (400) naming the place in a schema that would make too large a grammar: an
/// object of more than 256 properties, an enum of more than 500 values, bounds of more than 2,000,
/// a pattern of more than 1,024
/// bytes, or a reference to another document.
void require_modest_schema(const Json& schema, const std::string& path);

}  // namespace restkv::server
