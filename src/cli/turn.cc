#include "cli/turn.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "base/stopwatch.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "engine/kept_tokens.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// Work that is done sooner shows no progress.
constexpr double kQuietSeconds = 2;

/// What a cache that has been begun cannot be changed to.
constexpr const char* kReadOtherwise =
    "begin anew with --rope-scaling, which stretches the context, or with --prefill chunked "
    "--positions compact, which need none for all tokens";

}  // namespace

void require_room(const Session& session, const ModelConfig& config, const Tokenizer& tokenizer,
                  std::string_view text) {
  if (session.options().compact_positions) return;
  const size_t least = tokenizer.least_tokens(text);
  const size_t room =
      config.context_length - std::min(config.context_length, session.cache().next_position);
  if (least <= room) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("a text of {} bytes has {} tokens or more and does not fit into the "
                          "model's context of {}{}; shorten it, or {}",
                          text.size(), least, config.context_length,
                          room < config.context_length ? fmt::format(", of which {} are left", room)
                                                       : std::string(),
                          kReadOtherwise));
}

void require_fit(const Session& session, size_t context, size_t prompt_tokens,
                 size_t answer_tokens) {
  const std::optional<size_t> room = session.room_after(prompt_tokens);
  if (room && *room >= answer_tokens) return;
  const SessionOptions& options = session.options();
  std::string remedy = fmt::format("shorten the prompt, {}or {}",
                                   answer_tokens > 1 ? "lower --max-tokens, " : "", kReadOtherwise);
  if (options.compact_positions && options.compression.method == "full") {
    remedy = "method full drops nothing to make room: choose another --method";
  } else if (options.compact_positions && !room) {
    remedy = options.chunk > 0 ? "lower --chunk or --budget until both together fit"
                               : "read it with --prefill chunked";
  } else if (options.compact_positions) {
    remedy = options.interval > 0
                 ? "lower --decode-interval or --decode-budget until both together fit"
                 : "nothing is cut while an answer is written without --decode-interval: give it, "
                   "or lower --max-tokens or --budget";
  }
  const size_t read = session.cache().next_position;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}{} prompt tokens and {} do not fit into the model's context of {}; {}",
                          read > 0 ? fmt::format("{} tokens read before, ", read) : std::string(),
                          prompt_tokens,
                          answer_tokens > 1 ? fmt::format("--max-tokens {}", answer_tokens)
                                            : std::string("an answer"),
                          context, remedy));
}

double read_tokens(Session& session, std::span<const int32_t> tokens, const char* title) {
  const Stopwatch watch;
  Progress progress(stderr, title);
  session.append(tokens, [&](double done) {
    if (watch.seconds() > kQuietSeconds) progress.update(done);
    return !interrupted();
  });
  return watch.seconds();
}

Answered answer(Session& session, const ModelConfig& config, Conversation& conversation,
                const Tokenizer& tokenizer, Sampler& sampler, GenerationOptions options,
                bool prints) {
  const size_t read = session.tokens();
  options.on_text = [prints](std::string_view text) {
    if (prints) print_answer(text);
    return !interrupted();
  };
  Answered answered;
  double held = tokens_held(session.cache(), config);
  const auto decode = [&](int32_t token) {
    const std::span<const float> logits = session.append(token);
    const double now = tokens_held(session.cache(), config);
    if (now < held) ++answered.cuts;
    held = now;
    return logits;
  };
  answered.result = generate(decode, session.logits(), tokenizer, options, &sampler);
  const GenerationResult& result = answered.result;
  if (prints && options.max_tokens > 0 && !result.text.ends_with('\n')) print("\n");
  const auto fed = static_cast<std::ptrdiff_t>(session.tokens() - read);
  conversation.answer(result.text, {result.tokens.begin() + fed, result.tokens.end()});
  return answered;
}

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "interrupted";
    case FinishReason::kStop:
      break;
  }
  return "stop";
}

Session load_session(const Engine& engine, const std::string& path, Conversation& conversation) {
  std::string said;
  Session session = Session::load(engine, path, &said);
  try {
    conversation.from_json(said);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", path, e.what()));
  }
  return session;
}

}  // namespace restkv::cli
