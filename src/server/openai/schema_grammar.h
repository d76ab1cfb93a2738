#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace restkv::server {

/// A grammar for JSON that a schema describes. Throws `HttpError` (400), `param` the field.
std::string grammar_of_schema(const Json& schema, const std::string& param);

/// The same as part of a larger grammar: the names of all rules begin with `prefix`.
std::string schema_rules(const Json& schema, const std::string& param, std::string_view prefix);

}  // namespace restkv::server
