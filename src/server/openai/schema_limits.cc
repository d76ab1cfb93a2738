#include "server/openai/schema_limits.h"

#include <fmt/format.h>

#include "server/openai/field_reader.h"

namespace restkv::server {
namespace {

constexpr size_t kMostProperties = 256;
constexpr size_t kMostValues = 500;
constexpr double kMostRepetitions = 2000;
constexpr size_t kMostPatternBytes = 1024;

void check_keyword(const std::string& name, const Json& value, const std::string& path) {
  if (name == "properties" && value.is_object() && value.size() > kMostProperties) {
    refuse_field(path, fmt::format("'{}' has {} properties; the limit is {}", path, value.size(),
                                   kMostProperties));
  }
  if (name == "enum" && value.is_array() && value.size() > kMostValues) {
    refuse_field(
        path, fmt::format("'{}' has {} values; the limit is {}", path, value.size(), kMostValues));
  }
  const bool is_bound =
      name == "minItems" || name == "maxItems" || name == "minLength" || name == "maxLength";
  if (is_bound && !(value.is_number_unsigned() && value.get<double>() <= kMostRepetitions)) {
    refuse_value(path, value, fmt::format("a whole number up to {}", kMostRepetitions));
  }
  if (name == "pattern" && value.is_string() && value.text().size() > kMostPatternBytes) {
    refuse_field(path, fmt::format("'{}' has {} bytes; the limit is {}", path, value.text().size(),
                                   kMostPatternBytes));
  }
  if (name == "$ref" && value.is_string() && !value.text().starts_with('#')) {
    refuse_value(path, value, "a reference within the schema, which begins with #");
  }
}

/// `has_names`: what the fields are called are names of schemas, no keywords.
void check(const Json& schema, const std::string& path, bool has_names) {
  if (schema.is_array()) {
    for (size_t i = 0; i < schema.size(); ++i) {
      const Json& item = schema.at(i);
      if (item.is_object() || item.is_array()) check(item, item_path(path, i), false);
    }
  }
  if (!schema.is_object()) return;
  for (const auto& [name, value] : schema.items()) {
    const std::string where = fmt::format("{}.{}", path, name);
    if (!has_names) {
      check_keyword(name, value, where);
      if (name == "const" || name == "enum" || name == "default" || name == "examples") continue;
    }
    const bool holds_schemas = name == "properties" || name == "patternProperties" ||
                               name == "$defs" || name == "definitions";
    check(value, where, !has_names && holds_schemas);
  }
}

}  // namespace

void require_modest_schema(const Json& schema, const std::string& path) {
  check(schema, path, false);
}

}  // namespace restkv::server
