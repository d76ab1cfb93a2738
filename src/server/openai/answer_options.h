#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "restkv/generate.h"
#include "restkv/session.h"
#include "server/openai/field_reader.h"
#include "server/openai/limits.h"

/// What requests of all kinds have in common: how answers are sampled, where they end, how the
/// cache is compressed.
namespace restkv::server {

struct AnswerOptions {
  std::string model;  ///< Empty: the one there is.
  std::string user;
  size_t n = 1;
  bool stream = false;
  bool include_usage = false;  ///< A chunk with the counts of tokens ends the stream.
  /// `on_text` and `constraint` are left to the caller.
  GenerationOptions generation;
  bool has_max_tokens = false;
  /// Otherwise `generation.sampling.seed` is the operator's, to be drawn anew.
  bool has_seed = false;
  std::optional<std::string> document;  ///< Id of one that has been read before.
  std::optional<AskedSession> session;  ///< Differs from the operator's.
};

/// The fields that are the same in OpenAI's forms and in llama.cpp's, `max_tokens` and `logprobs`
/// excepted. `stops`: what the field of the stop texts is called. Throws `HttpError` (400).
AnswerOptions parse_answer_options(const FieldReader& body, const RequestLimits& limits,
                                   const char* stops = "stop");

/// The first of `names` that the body has as `max_tokens`; `otherwise` without one.
void parse_max_tokens(const FieldReader& body, std::initializer_list<const char*> names,
                      size_t least, size_t otherwise, const RequestLimits& limits,
                      AnswerOptions& options);

/// A seed of any size as one that samplers take: those below 2^32 - 1 are themselves.
uint32_t sampler_seed(int64_t seed);

/// The object "restkv": method (with options, as on the command line), budget, decode_budget,
/// interval, kv_type, sparse. `start`: what it changes. Throws `HttpError` (400), for unknown
/// fields, too.
AskedSession parse_session_options(const FieldReader& restkv, const AskedSession& start,
                                   const RequestLimits& limits);
/// The options for a prompt of so many tokens. A share is limited as numbers are, and leaves room
/// for a token beside the observation window. Throws `HttpError` (400).
SessionOptions session_for(const AskedSession& asked, size_t prompt_tokens,
                           const RequestLimits& limits);

}  // namespace restkv::server
