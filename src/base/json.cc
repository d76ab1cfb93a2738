#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorCode::kInput, reason); }

[[noreturn]] void refuse(std::string_view source, size_t line, std::string_view reason) {
  refuse(source.empty() ? std::string(reason) : fmt::format("{}:{}: {}", source, line, reason));
}

size_t line_of(std::string_view text, size_t position) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(position, text.size()));
  return 1 + static_cast<size_t>(std::count(text.begin(), end, '\n'));
}

/// Where `text` first has too many levels; npos if it never has. Strings are skipped as the parser
/// skips them, so that both agree on every text that the parser takes.
size_t too_deep_at(std::string_view text) {
  size_t levels = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i) {
          if (text[i] == '\\') ++i;
        }
        break;
      case '[':
      case '{':
        if (++levels > kMostJsonLevels) return i;
        break;
      case ']':
      case '}':
        if (levels > 0) --levels;
        break;
      default:
        break;
    }
  }
  return std::string_view::npos;
}

/// Where `text` first writes a zero byte, which ends a text wherever C libraries read it; npos if
/// it never does.
size_t zero_byte_at(std::string_view text) {
  constexpr std::string_view kZero = "\\u0000";
  for (size_t at = text.find(kZero); at != std::string_view::npos; at = text.find(kZero, at + 1)) {
    const size_t before = text.substr(0, at).find_last_not_of('\\') + 1;
    if ((at - before) % 2 == 0) return at;  // otherwise the backslash is escaped itself
  }
  return std::string_view::npos;
}

std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  size_t end = most - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) --end;
  return text.substr(0, end) + "...";
}

/// The fields of the objects that a parser is in. JSON does not say which of two alike counts.
class OpenObjects {
 public:
  template <class Json>
  bool operator()(int /*depth*/, nlohmann::detail::parse_event_t event, Json& value) {
    using Event = nlohmann::detail::parse_event_t;
    if (event == Event::object_start) {
      fields_.emplace_back();
    } else if (event == Event::object_end) {
      fields_.pop_back();
    } else if (event == Event::key) {
      const auto& name = value.template get_ref<const std::string&>();
      if (!fields_.back().insert(name).second) {
        refuse(
            fmt::format("field '{}' stands twice in one object; keep one of them", cut(name, 80)));
      }
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> fields_;
};

/// "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error while parsing
/// value - invalid literal; ..." as "parse error at column 9: invalid literal; ...": the caller
/// knows the line.
std::string short_reason(std::string_view text) {
  if (const size_t end = text.find("] "); end != std::string_view::npos)
    text.remove_prefix(end + 2);
  std::string reason(text);
  constexpr std::string_view kLine = "line ";
  const size_t at = reason.find(kLine);
  const size_t end = reason.find(", ", at);
  if (at != std::string::npos && end != std::string::npos) reason.erase(at, end + 2 - at);
  constexpr std::string_view kSyntax = "syntax error while parsing ";
  const size_t syntax = reason.find(kSyntax);
  const size_t dash = reason.find(" - ", syntax);
  if (syntax != std::string::npos && dash != std::string::npos) {
    reason.erase(syntax, dash + 3 - syntax);
  }
  return cut(std::move(reason), 300);  // the last word that was read may be a megabyte
}

template <class Json>
std::string described(const Json& value) {
  return value.is_primitive() && !value.is_string() ? shown(value)
                                                    : fmt::format("of type {}", value.type_name());
}

template <class Json>
[[noreturn]] void refuse_type(std::string_view name, std::string_view wanted, const Json& value) {
  refuse(fmt::format("field '{}' must be {}, not {}", name, wanted, described(value)));
}

template <class Json>
const Json& typed_field(const Json& record, std::string_view name,
                        bool (Json::*is_wanted)() const noexcept, std::string_view wanted) {
  const Json& value = field(record, name);
  if (!(value.*is_wanted)()) refuse_type(name, wanted, value);
  return value;
}

}  // namespace

template <class Json>
Json parse_json(std::string_view text, std::string_view source) {
  if (const size_t at = too_deep_at(text); at != std::string_view::npos) {
    refuse(source, line_of(text, at),
           fmt::format("has more than {} levels of lists and objects within each other; remove "
                       "what is nested deeper",
                       kMostJsonLevels));
  }
  if (const size_t at = text.find('\0'); at != std::string_view::npos) {
    refuse(source, line_of(text, at), "has a zero byte, which is none of JSON; remove it");
  }
  try {
    return Json::parse(
        text, [objects = OpenObjects()](auto&&... event) mutable { return objects(event...); });
  } catch (const Error& e) {
    refuse(source.empty() ? e.what() : fmt::format("{}: {}", source, e.what()));
  } catch (const json::parse_error& e) {
    refuse(source, line_of(text, e.byte == 0 ? 0 : e.byte - 1), short_reason(e.what()));
  } catch (const json::exception& e) {  // a number that no double holds
    refuse(source, 1, short_reason(e.what()));
  }
}

void require_no_zero_byte_in_json(std::string_view text, std::string_view source) {
  const size_t at = zero_byte_at(text);
  if (at == std::string_view::npos) return;
  refuse(source, line_of(text, at),
         fmt::format("a text holds a zero byte (\\u0000, at column {}); remove it",
                     at - text.rfind('\n', at)));
}

template <class Json>
Json read_json(const std::string& path) {
  const std::string text = read_file(path);
  auto json = parse_json<Json>(text, path);
  require_no_zero_byte_in_json(text, path);
  return json;
}

template <class Json>
std::string shown(const Json& value) {
  return cut(value.dump(-1, ' ', false, Json::error_handler_t::replace), 80);
}

template <class Json>
const Json& field(const Json& record, std::string_view name) {
  if (!record.is_object()) {
    refuse(fmt::format("expected an object with field '{}', not {}", name, shown(record)));
  }
  const auto found = record.find(std::string(name));
  if (found == record.end()) refuse(fmt::format("field '{}' is missing", name));
  return *found;
}

template <class Json>
const std::string& text_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_string, "a text")
      .template get_ref<const std::string&>();
}

template <class Json>
bool bool_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_boolean, "true or false").template get<bool>();
}

template <class Json>
double number_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_number, "a number").template get<double>();
}

template <class Json>
int64_t integer_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_number_integer, "a whole number")
      .template get<int64_t>();
}

template <class Json>
size_t count_field(const Json& record, std::string_view name) {
  const int64_t value = integer_field(record, name);
  if (value < 0) refuse_type(name, "0 or more", field(record, name));
  return static_cast<size_t>(value);
}

template <class Json>
std::vector<std::string> texts_field(const Json& record, std::string_view name) {
  const Json& value = list_field(record, name);
  std::vector<std::string> texts;
  for (const Json& item : value) {
    if (!item.is_string()) {
      refuse(fmt::format("field '{}' must be a list of texts; its item {} is {}", name,
                         texts.size() + 1, described(item)));
    }
    texts.push_back(item.template get<std::string>());
  }
  return texts;
}

template <class Json>
const Json& object_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_object, "an object");
}

template <class Json>
const Json& list_field(const Json& record, std::string_view name) {
  return typed_field(record, name, &Json::is_array, "a list");
}

#define RESTKV_JSON_FUNCTIONS(Json)                                                   \
  template Json parse_json<Json>(std::string_view, std::string_view);                 \
  template Json read_json<Json>(const std::string&);                                  \
  template std::string shown<Json>(const Json&);                                      \
  template const Json& field<Json>(const Json&, std::string_view);                    \
  template const std::string& text_field<Json>(const Json&, std::string_view);        \
  template bool bool_field<Json>(const Json&, std::string_view);                      \
  template double number_field<Json>(const Json&, std::string_view);                  \
  template int64_t integer_field<Json>(const Json&, std::string_view);                \
  template size_t count_field<Json>(const Json&, std::string_view);                   \
  template std::vector<std::string> texts_field<Json>(const Json&, std::string_view); \
  template const Json& object_field<Json>(const Json&, std::string_view);             \
  template const Json& list_field<Json>(const Json&, std::string_view);
RESTKV_JSON_FUNCTIONS(json)
RESTKV_JSON_FUNCTIONS(ordered_json)
#undef RESTKV_JSON_FUNCTIONS

}  // namespace restkv
