#include "server/openai/token_logprobs.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace restkv::server {
namespace {

std::string token_name(const std::string& piece) {
  if (is_utf8(piece)) return piece;
  std::string name = "bytes:";
  for (const char byte : piece) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

Json entry(int32_t token, const std::string& piece, double logprob, bool with_ids) {
  Json json = Json::object();
  if (with_ids) json["id"] = token;
  json["token"] = piece;
  json["logprob"] = finite_logprob(logprob);
  json["bytes"] = bytes_json(piece);
  return json;
}

/// Characters that begin in these bytes.
size_t characters(std::string_view bytes) {
  return static_cast<size_t>(std::ranges::count_if(
      bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

}  // namespace

NamedLogprob named(const TokenLogprob& logprob, const Tokenizer& tokenizer) {
  NamedLogprob result{.token = logprob.token,
                      .piece = tokenizer.piece(logprob.token, true),
                      .logprob = logprob.logprob};
  for (const auto& [token, value] : logprob.likeliest) {
    result.likeliest.push_back({token, tokenizer.piece(token, true), value});
  }
  return result;
}

bool is_utf8(std::string_view bytes) { return replace_invalid_utf8(bytes) == bytes; }

Json bytes_json(std::string_view bytes) {
  std::vector<int> numbers;
  numbers.reserve(bytes.size());
  for (const char byte : bytes) numbers.push_back(static_cast<unsigned char>(byte));
  return numbers;
}

double finite_logprob(double logprob) { return std::max(logprob, -9999.0); }

Json logprobs_content(std::span<const NamedLogprob> tokens, bool with_ids) {
  Json list = Json::array();
  for (const NamedLogprob& token : tokens) {
    Json json = entry(token.token, token.piece, token.logprob, with_ids);
    Json top = Json::array();
    for (const auto& other : token.likeliest) {
      top.push_back(entry(other.token, other.piece, other.logprob, with_ids));
    }
    json["top_logprobs"] = std::move(top);
    list.push_back(std::move(json));
  }
  return list;
}

Json completion_logprobs(std::span<const NamedLogprob> tokens, size_t& offset) {
  Json names = Json::array();
  Json values = Json::array();
  Json tops = Json::array();
  Json offsets = Json::array();
  for (const NamedLogprob& token : tokens) {
    names.push_back(token_name(token.piece));
    values.push_back(token.has_logprob ? Json(finite_logprob(token.logprob)) : Json());
    Json top = Json::object();
    for (const auto& other : token.likeliest) {
      const std::string name = token_name(other.piece);
      // Of several tokens with the same bytes, the likeliest: it comes first.
      if (!top.contains(name)) top[name] = finite_logprob(other.logprob);
    }
    tops.push_back(token.has_logprob ? std::move(top) : Json());
    offsets.push_back(offset);
    offset += characters(token.piece);
  }
  return Json::object({{"tokens", std::move(names)},
                       {"token_logprobs", std::move(values)},
                       {"top_logprobs", std::move(tops)},
                       {"text_offset", std::move(offsets)}});
}

}  // namespace restkv::server
