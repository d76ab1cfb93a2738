#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace restkv::server {

/// Each of them takes some 60 bytes of memory, where two bytes of a body may be enough for it.
inline constexpr size_t kMostJsonValues = size_t{2} << 20U;

/// The body of a request. Throws `HttpError`: 400 if it is no JSON object, has more than
/// `kMostJsonLevels` levels, numbers too large for a double, or text that is not UTF-8; 413 if it
/// has more than `kMostJsonValues` values.
Json parse_body(std::string_view body);

/// The known fields of one object of a request. A field that is null counts as absent; one of
/// another type or outside its range is refused (`HttpError`, 400) by its whole name.
class FieldReader {
 public:
  /// `path`: what the object is called, "messages[2]"; empty for the body itself. `object` must
  /// outlive the reader, and be an object.
  explicit FieldReader(const Json& object, std::string path = {});

  [[nodiscard]] const Json* find(std::string_view name) const;
  /// The same; refused if it is absent.
  [[nodiscard]] const Json& required(std::string_view name, std::string_view wanted) const;

  [[nodiscard]] std::optional<bool> boolean(std::string_view name) const;
  /// From `low` to `high`, both included.
  [[nodiscard]] std::optional<double> number(std::string_view name, double low, double high) const;
  [[nodiscard]] std::optional<int64_t> whole(std::string_view name, int64_t low,
                                             int64_t high) const;
  /// `most`: bytes.
  [[nodiscard]] std::optional<std::string> text(std::string_view name,
                                                size_t most = std::string::npos) const;
  [[nodiscard]] std::optional<FieldReader> object(std::string_view name) const;
  [[nodiscard]] const Json* list(std::string_view name) const;

  /// All there are, known or not.
  [[nodiscard]] const std::vector<JsonField>& object_fields() const { return object_->items(); }
  /// "messages[2].content"
  [[nodiscard]] std::string path(std::string_view name) const;
  /// `wanted`: "a text".
  [[noreturn]] void refuse(std::string_view name, std::string_view wanted) const;
  /// Refuses a field that this server does not have, unless it is absent.
  void refuse_if_given(std::string_view name, std::string_view reason) const;

 private:
  const Json* object_;
  std::string path_;
};

/// "stop[2]"
std::string item_path(std::string_view list, size_t index);
/// Throws `HttpError` (400): "'path' is VALUE; expected WANTED".
[[noreturn]] void refuse_value(const std::string& path, const Json& value, std::string_view wanted);
/// Throws `HttpError` (400) about this field.
[[noreturn]] void refuse_field(const std::string& path, const std::string& message);

}  // namespace restkv::server
