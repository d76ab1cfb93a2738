#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/session.h"
#include "server/openai/limits.h"

/// Requests about texts and tokens that no model has to answer.
namespace restkv::server {

/// `POST /tokenize`, in llama.cpp's words (content, add_special, with_pieces) or vLLM's (prompt,
/// add_special_tokens).
struct TokenizeRequest {
  std::string text;
  bool add_special = false;
  bool parse_special = true;
  bool with_pieces = false;
};
TokenizeRequest parse_tokenize_request(const Json& json);

/// `POST /detokenize`: the tokens.
std::vector<int32_t> parse_detokenize_request(const Json& json, const RequestLimits& limits);

/// {"tokens", "count", "max_model_len"} as text: what both kinds of clients look for. `piece_of`:
/// the bytes of a token; empty: ids alone. There may be millions, so that values for all of them
/// would take many times the memory of the text.
std::string tokens_json(std::span<const int32_t> tokens,
                        const std::function<std::string(int32_t)>& piece_of, size_t context);
/// {"content", "prompt"}
Json detokenized_json(const std::string& text);

/// `POST /v1/documents` in JSON.
struct DocumentRequest {
  std::string text;
  std::string name;  ///< For people.
  std::optional<AskedSession> session;
};
DocumentRequest parse_document_request(const Json& json, const RequestLimits& limits);

}  // namespace restkv::server
