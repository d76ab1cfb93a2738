#include "cli/answer_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "generate/gbnf.h"
#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/openai/schema_grammar.h"
#include "server/openai/schema_limits.h"

namespace restkv::cli {
namespace {

constexpr int kMostTokens = 1 << 30;

bool is_json(const std::string& text) { return trimmed(text).starts_with('{'); }
bool is_gbnf(const std::string& text) { return text.find("::=") != std::string::npos; }

/// The text itself, or that of the file.
std::string text_of(const std::string& option, bool is_text) {
  return is_text ? option : to_utf8(read_file(option), option);
}

std::string grammar_of(const Json& schema, const std::string& source) {
  try {
    server::require_modest_schema(schema, "schema");
    return server::grammar_of_schema(schema, "schema");
  } catch (const server::HttpError& e) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", source, e.what()));
  }
}

}  // namespace

void AnswerFlags::declare(ArgumentParser& parser, bool may_only_read) {
  parser
      .add("-n,--max-tokens", max_tokens_,
           fmt::format("most tokens of an answer; -1: as many as the model writes{}",
                       may_only_read ? "; 0: only read" : ""),
           "N")
      .range(-1, kMostTokens);
  parser.add_repeated("--stop", stops_, "the answer ends before this text; repeatable", "TEXT");
  parser.add("--json-schema", schema_, "the answer is JSON of this schema: a file, or the schema",
             "FILE");
  parser
      .add("--grammar", grammar_, "the answer follows this grammar (GBNF): a file, or the grammar",
           "FILE")
      .rare();
}

void AnswerFlags::read() {
  if (!schema_.empty() && !grammar_.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--json-schema and --grammar both say what the answer may be; leave one of them "
                "out");
  }
  for (std::string& stop : stops_) stop = to_utf8(stop, "--stop");
  if (!schema_.empty()) {
    const bool is_text = is_json(schema_);
    const std::string source = is_text ? "--json-schema" : schema_;
    const Json schema = parse_json(text_of(schema_, is_text), source);
    if (!schema.is_object()) {
      throw Error(ErrorCode::kInput, source + ": is no JSON schema, which is an object");
    }
    constraint_ = GrammarOptions{.gbnf = grammar_of(schema, source)};
  } else if (!grammar_.empty()) {
    const bool is_text = is_gbnf(grammar_);
    constraint_ = GrammarOptions{.gbnf = text_of(grammar_, is_text)};
    try {
      check_gbnf(constraint_->gbnf);
    } catch (const Error& e) {
      throw Error(e.code(), fmt::format("{}: {}", is_text ? "--grammar" : grammar_, e.what()));
    }
  }
}

size_t AnswerFlags::max_tokens(size_t room) const {
  return max_tokens_ < 0 ? std::min(room, static_cast<size_t>(kMostTokens))
                         : static_cast<size_t>(max_tokens_);
}

std::vector<std::pair<std::string, std::string>> AnswerFlags::files() const {
  std::vector<std::pair<std::string, std::string>> files;
  if (!schema_.empty() && !is_json(schema_)) files.emplace_back("--json-schema", schema_);
  if (!grammar_.empty() && !is_gbnf(grammar_)) files.emplace_back("--grammar", grammar_);
  return files;
}

GenerationOptions AnswerFlags::options(const Tokenizer& tokenizer, size_t most,
                                       std::unique_ptr<TokenConstraint>& constraint) const {
  GenerationOptions options;
  options.max_tokens = most;
  options.stop = stops_;
  if (constraint_) {
    constraint = make_grammar(tokenizer, *constraint_);
    options.constraint = constraint.get();
  }
  return options;
}

}  // namespace restkv::cli
