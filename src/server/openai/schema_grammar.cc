#include "server/openai/schema_grammar.h"

#include <fmt/format.h>
#include <json-schema-to-grammar.h>

#include <algorithm>
#include <cctype>
#include <exception>

#include "generate/gbnf.h"
#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/openai/field_reader.h"
#include "server/openai/library_reason.h"
#include "server/openai/schema_limits.h"

namespace restkv::server {
namespace {

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; }

/// The place behind what begins at `at` and ends with `close`.
size_t behind(std::string_view grammar, size_t at, char close) {
  for (++at; at < grammar.size() && grammar[at] != close; ++at) {
    if (grammar[at] == '\\') ++at;
  }
  return std::min(at + 1, grammar.size());
}

}  // namespace

std::string grammar_of_schema(const Json& schema, const std::string& param) {
  require_modest_schema(schema, param);
  std::string grammar;
  try {
    grammar = json_schema_to_grammar(common_json::parse(schema.dump()));
  } catch (const std::exception& e) {
    throw HttpError(400, fmt::format("'{}' cannot be followed: {}", param, short_reason(e)),
                    {.param = param});
  }
  try {
    check_gbnf(grammar);
  } catch (const Error& error) {
    throw http_error(error, param);
  }
  return grammar;
}

// libllama can make one grammar of several schemas, too, but takes definitions ($defs) of the same
// name in two of them for one.
std::string schema_rules(const Json& schema, const std::string& param, std::string_view prefix) {
  const std::string grammar = grammar_of_schema(schema, param);
  std::string rules;
  for (size_t at = 0; at < grammar.size();) {
    const char c = grammar[at];
    size_t end = at + 1;
    if (c == '"') {
      end = behind(grammar, at, '"');
    } else if (c == '[') {
      end = behind(grammar, at, ']');
    } else if (c == '{') {  // repetitions
      end = behind(grammar, at, '}');
    } else if (is_name(c)) {
      while (end < grammar.size() && is_name(grammar[end])) ++end;
      rules += prefix;
    }
    rules.append(grammar, at, end - at);
    at = end;
  }
  if (!rules.ends_with('\n')) rules += '\n';
  return rules;
}

}  // namespace restkv::server
