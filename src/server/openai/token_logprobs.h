#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"

namespace restkv::server {

/// A token's log-probability with the bytes that tokens stand for.
struct NamedLogprob {
  int32_t token = 0;
  std::string piece;
  double logprob = 0;
  bool has_logprob = true;  ///< The first token of a prompt has none.
  struct Alternative {
    int32_t token = 0;
    std::string piece;
    double logprob = 0;
  };
  std::vector<Alternative> likeliest = {};
};

/// Control tokens are called by their texts.
NamedLogprob named(const TokenLogprob& logprob, const Tokenizer& tokenizer);

bool is_utf8(std::string_view bytes);
/// [226, 130]
Json bytes_json(std::string_view bytes);
/// What JSON can hold: OpenAI writes -9999 for what cannot happen.
double finite_logprob(double logprob);

/// A chat's form: a list of {"token", "logprob", "bytes", "top_logprobs"}. `with_ids`: llama.cpp's,
/// which has "id", too.
Json logprobs_content(std::span<const NamedLogprob> tokens, bool with_ids = false);

/// A completion's form: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}. Tokens that
/// are no UTF-8 by themselves are written "bytes:\xe2\x82". `offset`: characters of the text before
/// them; afterwards, behind them.
Json completion_logprobs(std::span<const NamedLogprob> tokens, size_t& offset);

}  // namespace restkv::server
