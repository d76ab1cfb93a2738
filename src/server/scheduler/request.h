#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/error.h"
#include "restkv/generate.h"
#include "restkv/session.h"

/// What is asked of a `Scheduler`, and what it tells while it works.
namespace restkv::server {

/// Given away once.
using RequestId = uint64_t;
/// Letters, digits and hyphens.
using DocumentId = std::string;

/// What a request cost. What `n` answers share, the prompt, is counted in each of them.
struct Usage {
  size_t prompt_tokens = 0;      ///< A document's and the request's own.
  size_t cached_tokens = 0;      ///< Of these, not read for this request: they were kept.
  size_t completion_tokens = 0;  ///< Of this answer, without an end token.
  size_t kept = 0;               ///< Tokens per KV head in the cache at the end, on average.
  size_t dropped = 0;            ///< Tokens that the sequence has read and does not hold, the same.
  size_t kv_bytes = 0;           ///< Of the kept rows.
  size_t full_kv_bytes = 0;      ///< Of all tokens that were read, in half precision.
  double compress_ms = 0;        ///< Scoring, selection and gathering, for this request.
  double queued_seconds = 0;     ///< From `submit` until its prompt was begun.
  double prompt_seconds = 0;     ///< From then until its first logits, pauses included.
  double decode_seconds = 0;     ///< This answer's share of the decoding steps.
};

/// Something was written.
struct Piece {
  size_t answer = 0;
  /// Whole UTF-8 characters, which no stop takes back; may be empty.
  std::string_view text;
  /// New since the last piece. A text may come later than its tokens, when it is certain.
  std::span<const int32_t> tokens;
  /// One for each of `tokens`, if wanted.
  std::span<const TokenLogprob> logprobs;
};

/// Hears what becomes of a request, on the engine thread: it must not block. After `started`,
/// every answer ends with `finished` or `failed`; `closed` is the last call. A request that never
/// starts gets `failed` for each answer, then `closed`. What a listener throws cancels its request
/// and nothing else; then it only gets `closed`.
class Listener {
 public:
  virtual ~Listener() = default;

  /// The prompt is begun: `usage` has its tokens, those cached and the time in the queue.
  virtual void started(const Usage& /*usage*/) {}
  /// Share of the prompt that has been read, 0 to 1.
  virtual void prompt_progress(double /*done*/) {}
  /// If `Request::prompt_logprobs`: once, when the prompt is complete, before anything is written.
  /// One for each token of the prompt after the first.
  virtual void prompt_scored(std::span<const TokenLogprob> /*logprobs*/) {}
  virtual void wrote(const Piece& /*piece*/) {}
  virtual void finished(size_t /*answer*/, const GenerationResult& /*result*/,
                        const Usage& /*usage*/) {}
  /// Codes as those of `Session::append`; kInterrupted: cancelled, or the scheduler shuts down.
  virtual void failed(size_t /*answer*/, const Error& /*error*/) {}
  /// Nothing more will come.
  virtual void closed() {}
};

struct Request {
  /// To be read first; after the document, if there is one. May be empty only then.
  std::vector<int32_t> prompt;
  /// How the cache is compressed. None: as the document's, or else `SchedulerOptions::session`. A
  /// document has been read with its own options: others are refused.
  std::optional<SessionOptions> session;
  /// Begins with a copy of this document's cache.
  std::optional<DocumentId> document;
  /// May begin with a copy of a cache that an earlier request left, whose tokens the prompt
  /// extends. They have been compressed with other questions in view: the answer is as that of a
  /// further turn in a conversation.
  bool reuse = true;
  /// Wants the log-probability of every token of the prompt but the first, and so many of the
  /// likeliest tokens beside each. The prompt is then read anew, in whole and densely, whatever
  /// `reuse`, `SessionOptions::chunk` and `sparse` say: every token is judged by all tokens before
  /// it, and no cut has an influence. A request with a document is refused.
  std::optional<size_t> prompt_logprobs;

  /// Of every answer; answer i samples with `seed_of_answer`. `max_tokens` (and with it
  /// `min_tokens`) is cut to what the model's context leaves; 0: only the prompt is read. `on_text`
  /// and `constraint` must be empty: below is what stands for them.
  GenerationOptions generation;
  /// What each answer may say, made anew for each on the engine thread; empty: anything.
  std::function<std::unique_ptr<TokenConstraint>()> constraint;
  /// Answers. The prompt is read once for all of them.
  size_t n = 1;

  std::shared_ptr<Listener> listener;  ///< Null: nobody listens.
};

/// The seed of answer i of a request: seed + i, without the one that samplers refuse.
inline uint32_t seed_of_answer(uint32_t seed, size_t i) {
  return static_cast<uint32_t>((uint64_t{seed} + i) % std::numeric_limits<uint32_t>::max());
}

/// Whether prompt and answer of a request with these options come on top of what its document
/// keeps (`Session::reserve`). With compact positions cuts are what makes room in the context.
inline bool reserves(const Request& request, const SessionOptions& session) {
  return request.document.has_value() && !session.compact_positions;
}

/// Too many requests wait: the same one may be accepted later.
class Busy : public Error {
 public:
  Busy(const std::string& message, double retry_after)
      : Error(ErrorCode::kInterrupted, message), retry_after_(retry_after) {}
  /// Seconds after which there is probably room.
  [[nodiscard]] double retry_after() const { return retry_after_; }

 private:
  double retry_after_;
};

}  // namespace restkv::server
