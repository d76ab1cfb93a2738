// Parses and prints JSON with nlohmann/json. Only this file includes that large header library.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <utility>
#include <variant>

#include "base/file.h"
#include "base/json.h"
#include "restkv/error.h"

namespace restkv {
namespace {

[[noreturn]] void refuse(std::string_view source, size_t line, std::string_view reason) {
  throw Error(ErrorCode::kInput, source.empty() ? std::string(reason)
                                                : fmt::format("{}:{}: {}", source, line, reason));
}

size_t line_of(std::string_view text, size_t position) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(position, text.size()));
  return 1 + static_cast<size_t>(std::count(text.begin(), end, '\n'));
}

/// The first place in `text` with too many levels; npos if there is none. Strings are skipped as by
/// the parser, so that both agree on every text that the parser accepts.
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

/// The first escape of a zero byte in `text`; npos if there is none. C libraries end strings there.
size_t zero_byte_at(std::string_view text) {
  constexpr std::string_view kZero = "\\u0000";
  for (size_t at = text.find(kZero); at != std::string_view::npos; at = text.find(kZero, at + 1)) {
    const size_t before = text.substr(0, at).find_last_not_of('\\') + 1;
    if ((at - before) % 2 == 0) return at;  // otherwise the backslash itself is escaped
  }
  return std::string_view::npos;
}

std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  size_t end = most - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) --end;
  return text.substr(0, end) + "...";
}

/// Shortens "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error while
/// parsing value - invalid literal; ..." to "parse error at column 9: invalid literal; ...". The
/// caller adds the line.
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
  return cut(std::move(reason), 300);  // it quotes the last token, which may be a megabyte
}

/// Builds `value` from the events of nlohmann's parser.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Reader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  Json value;

  bool null() override { return add({}); }
  bool boolean(bool truth) override { return add(truth); }
  bool number_integer(int64_t number) override { return add(number); }
  bool number_unsigned(uint64_t number) override { return add(number); }
  bool number_float(double number, const std::string& /*digits*/) override { return add(number); }
  bool string(std::string& text) override { return add(std::move(text)); }
  bool binary(nlohmann::json::binary_t& /*bytes*/) override { return false; }  // not in texts

  bool start_array(size_t /*size*/) override {
    open_.emplace_back(List());
    return true;
  }
  bool end_array() override {
    List list = std::move(std::get<List>(open_.back()));
    open_.pop_back();
    return add(std::move(list));
  }
  bool start_object(size_t /*size*/) override {
    open_.emplace_back(Object());
    return true;
  }
  bool key(std::string& name) override {
    auto& object = std::get<Object>(open_.back());
    // JSON does not define which of two equal names counts.
    if (!object.names.insert(name).second) {
      const std::string reason =
          fmt::format("field '{}' occurs twice in one object; keep one of them", cut(name, 80));
      throw Error(ErrorCode::kInput,
                  source_.empty() ? reason : fmt::format("{}: {}", source_, reason));
    }
    object.fields.push_back({std::move(name), {}});
    return true;
  }
  bool end_object() override {
    std::vector<JsonField> fields = std::move(std::get<Object>(open_.back()).fields);
    open_.pop_back();
    return add(Json(std::move(fields)));
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    refuse(source_, line_of(text_, position == 0 ? 0 : position - 1), short_reason(error.what()));
  }

 private:
  using List = std::vector<Json>;
  struct Object {
    std::vector<JsonField> fields;  ///< The value of the last one is not read yet.
    std::set<std::string> names;
  };

  bool add(Json json) {
    if (open_.empty()) {
      value = std::move(json);
    } else if (auto* list = std::get_if<List>(&open_.back())) {
      list->push_back(std::move(json));
    } else {
      std::get<Object>(open_.back()).fields.back().value = std::move(json);
    }
    return true;
  }

  std::string_view text_;
  std::string_view source_;
  std::vector<std::variant<List, Object>> open_;
};

/// Builds nlohmann's values, one after the other.
class Writer {
 public:
  Writer(int indent, bool ascii) : indent_(indent), ascii_(ascii) {}

  std::string text;

  void write(const Json& json) {
    if (json.is_array()) {
      write_all('[', json, ']', [&](const Json& item) { write(item); });
    } else if (json.is_object()) {
      write_all('{', json.items(), '}', [&](const JsonField& field) {
        text += quoted(field.name);
        text += indent_ < 0 ? ":" : ": ";
        write(field.value);
      });
    } else if (json.is_string()) {
      text += quoted(json.text());
    } else if (json.is_number_float()) {
      text += nlohmann::json(json.get<double>()).dump();
    } else if (json.is_number()) {
      text += json.is_number_unsigned() ? std::to_string(json.get<uint64_t>())
                                        : std::to_string(json.get<int64_t>());
    } else {
      text += json.is_null() ? "null" : json.get<bool>() ? "true" : "false";
    }
  }

 private:
  [[nodiscard]] std::string quoted(const std::string& name) const {
    return nlohmann::json(name).dump(-1, ' ', ascii_, nlohmann::json::error_handler_t::replace);
  }

  void write_all(char open, const auto& parts, char close, const auto& write_part) {
    text += open;
    ++level_;
    bool first = true;
    for (const auto& part : parts) {
      if (!first) text += ',';
      first = false;
      new_line();
      write_part(part);
    }
    --level_;
    if (!first) new_line();
    text += close;
  }

  void new_line() {
    if (indent_ < 0) return;
    text += '\n';
    text.append(level_ * static_cast<size_t>(indent_), ' ');
  }

  int indent_;
  bool ascii_;
  size_t level_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  if (const size_t at = too_deep_at(text); at != std::string_view::npos) {
    refuse(source, line_of(text, at),
           fmt::format("has more than {} levels of lists and objects within each other; remove "
                       "what is nested deeper",
                       kMostJsonLevels));
  }
  if (const size_t at = text.find('\0'); at != std::string_view::npos) {
    refuse(source, line_of(text, at), "has a zero byte, which JSON does not allow; remove it");
  }
  Reader reader(text, source);
  nlohmann::json::sax_parse(text, &reader);
  return std::move(reader.value);
}

void require_no_zero_byte_in_json(std::string_view text, std::string_view source) {
  const size_t at = zero_byte_at(text);
  if (at == std::string_view::npos) return;
  refuse(source, line_of(text, at),
         fmt::format("a text holds a zero byte (\\u0000, at column {}); remove it",
                     at - text.rfind('\n', at)));
}

Json read_json(const std::string& path) {
  const std::string text = read_file(path);
  Json json = parse_json(text, path);
  require_no_zero_byte_in_json(text, path);
  return json;
}

std::string Json::dump(int indent) const {
  Writer writer(indent, false);
  writer.write(*this);
  return std::move(writer.text);
}

std::string Json::dump_ascii() const {
  Writer writer(-1, true);
  writer.write(*this);
  return std::move(writer.text);
}

std::ostream& Json::print(std::ostream& out) const { return out << dump(); }

std::string shown(const Json& value) { return cut(value.dump(), 80); }

}  // namespace restkv
