#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "restkv/generate.h"
#include "server/http/http_error.h"
#include "server/openai/answer_parts.h"
#include "server/scheduler/request.h"

namespace restkv::server {

/// Makes of what the scheduler tells about one request of a client what the client gets: as server-
/// sent events (each call's result: whole events, or nothing) and as one JSON text. Calls come one
/// at a time.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  /// A prompt has been begun; `counts` are those of all so far.
  virtual std::string begin(const TokenCounts& /*counts*/) { return {}; }
  /// Log-probabilities of prompt `prompt`, but for its first token.
  virtual std::string scored(size_t /*prompt*/, std::span<const TokenLogprob> /*logprobs*/) {
    return {};
  }
  virtual std::string write(size_t choice, const Piece& piece) = 0;
  /// `totals`: of all choices that have ended, this one included.
  virtual std::string finish(size_t choice, const GenerationResult& result, const Usage& usage,
                             const AnswerTotals& totals) = 0;
  /// The body of a refusal before anything was sent.
  [[nodiscard]] virtual std::string refusal(const HttpError& error) const { return error.json(); }
  virtual std::string fail(const HttpError& error) { return sse_error(error); }
  /// After the last choice.
  [[nodiscard]] virtual std::string whole(const AnswerTotals& totals) const = 0;
};

}  // namespace restkv::server
