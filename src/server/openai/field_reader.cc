#include "server/openai/field_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "restkv/error.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

/// None if it is not whole, or no int64_t. Some clients write every number as 16.0.
std::optional<int64_t> whole_number(const Json& value) {
  constexpr double kExact = 9007199254740992;  // 2^53; beyond, a double is not what was written
  if (value.is_number_float()) {
    const auto real = value.get<double>();
    if (std::abs(real) > kExact || real != std::trunc(real)) return std::nullopt;
    return static_cast<int64_t>(real);
  }
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && !std::in_range<int64_t>(value.get<uint64_t>())) {
    return std::nullopt;
  }
  return value.get<int64_t>();
}

/// What precedes values, outside of texts. JSON has at most one value more.
size_t separators(std::string_view json) {
  size_t count = 0;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '"') {
      for (++i; i < json.size() && json[i] != '"'; ++i) {
        if (json[i] == '\\') ++i;
      }
    }
    if (c == '[' || c == ',' || c == ':') ++count;
  }
  return count;
}

}  // namespace

Json parse_body(std::string_view body) {
  if (separators(body) > kMostJsonValues) {
    throw HttpError(413, fmt::format("the body of the request has more than {} JSON values; send "
                                     "it in parts",
                                     kMostJsonValues));
  }
  Json json;
  try {
    json = parse_json(body, "body");
  } catch (const Error& error) {
    throw HttpError(400, fmt::format("the body of the request is no JSON: {}", error.what()));
  }
  if (!json.is_object()) {
    throw HttpError(400,
                    fmt::format("the body of the request is {}; expected an object", shown(json)));
  }
  return json;
}

std::string item_path(std::string_view list, size_t index) {
  return fmt::format("{}[{}]", list, index);
}

void refuse_value(const std::string& path, const Json& value, std::string_view wanted) {
  refuse_field(path, fmt::format("'{}' is {}; expected {}", path, shown(value), wanted));
}

void refuse_field(const std::string& path, const std::string& message) {
  throw HttpError(400, message, {.param = path});
}

FieldReader::FieldReader(const Json& object, std::string path)
    : object_(&object), path_(std::move(path)) {
  if (!object.is_object()) refuse_value(path_, object, "an object");
}

const Json* FieldReader::find(std::string_view name) const {
  const Json* found = object_->find(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

const Json& FieldReader::required(std::string_view name, std::string_view wanted) const {
  if (const Json* found = find(name)) return *found;
  refuse_field(path(name), fmt::format("'{}' is missing; expected {}", path(name), wanted));
}

std::optional<bool> FieldReader::boolean(std::string_view name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(name, "true or false");
  return value->get<bool>();
}

std::optional<double> FieldReader::number(std::string_view name, double low, double high) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number =
      value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= low && number <= high)) {
    refuse(name, fmt::format("a number from {} to {}", low, high));
  }
  return number;
}

std::optional<int64_t> FieldReader::whole(std::string_view name, int64_t low, int64_t high) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = whole_number(*value);
  if (!number || *number < low || *number > high) {
    refuse(name, fmt::format("a whole number from {} to {}", low, high));
  }
  return number;
}

std::optional<std::string> FieldReader::text(std::string_view name, size_t most) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "a text");
  if (value->text().size() > most) {
    refuse_field(path(name), fmt::format("'{}' has {} bytes; the limit is {}", path(name),
                                         value->text().size(), most));
  }
  return value->text();
}

std::optional<FieldReader> FieldReader::object(std::string_view name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  return FieldReader(*value, path(name));
}

const Json* FieldReader::list(std::string_view name) const {
  const Json* value = find(name);
  if (value != nullptr && !value->is_array()) refuse(name, "a list");
  return value;
}

std::string FieldReader::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void FieldReader::refuse(std::string_view name, std::string_view wanted) const {
  refuse_value(path(name), object_->at(name), wanted);
}

void FieldReader::refuse_if_given(std::string_view name, std::string_view reason) const {
  if (find(name) != nullptr) {
    refuse_field(path(name), fmt::format("'{}' is not supported: {}", path(name), reason));
  }
}

}  // namespace restkv::server
