#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http/body_share.h"

namespace restkv::server {

/// Names and values in the order they came.
using Fields = std::vector<std::pair<std::string, std::string>>;

/// Fields of a message's header. Names are the same whatever the case of their letters.
class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<Fields::value_type> fields) : fields_(fields) {}

  /// The first field of that name; null if there is none.
  [[nodiscard]] const std::string* find(std::string_view name) const;
  /// The same as text; empty if there is none.
  [[nodiscard]] std::string_view value(std::string_view name) const;
  [[nodiscard]] size_t count(std::string_view name) const;
  void add(std::string name, std::string value);
  /// In place of all fields of that name.
  void set(std::string_view name, std::string value);

  [[nodiscard]] Fields::const_iterator begin() const { return fields_.begin(); }
  [[nodiscard]] Fields::const_iterator end() const { return fields_.end(); }

 private:
  Fields fields_;
};

/// Whether both are the same but for the case of ASCII letters.
bool same_but_case(std::string_view a, std::string_view b);

/// One whole request.
struct HttpRequest {
  std::string method;  ///< "POST"; a HEAD request arrives as "HEAD" at the handler for GET.
  /// Percent escapes decoded, dot segments resolved, without empty segments: begins with a slash
  /// and ends with one only if it is "/". Valid UTF-8 without control characters.
  std::string path;
  Fields parameters;  ///< What stands for the {names} of the route's pattern, decoded.
  Fields query;       ///< Decoded; "+" is a space.
  Headers headers;
  std::string body;
  std::shared_ptr<const BodyShare> body_share = {};  ///< Counts the body; null where nobody does.
  std::string peer;                                  ///< "127.0.0.1:51234", "[::1]:51234"

  /// The parameter `name`; empty if the pattern has none.
  [[nodiscard]] const std::string& parameter(std::string_view name) const;
  /// The first field `name` of the query; null if there is none.
  [[nodiscard]] const std::string* query_value(std::string_view name) const;
};

}  // namespace restkv::server
