#include "cli/turn.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/progress.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// Work that is done sooner shows no progress.
constexpr double kQuietSeconds = 2;

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
                          "model's context of {}; shorten it, stretch the context with "
                          "--rope-scaling, or read on with --prefill chunked --positions compact",
                          text.size(), least, config.context_length));
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

Generation answer(Session& session, Conversation& conversation, const Tokenizer& tokenizer,
                  Sampler& sampler, size_t max_tokens) {
  const size_t read = session.tokens();
  Generation generation = generate([&](int32_t token) { return session.append(token); }, tokenizer,
                                   session.logits(), sampler, max_tokens,
                                   [](const std::string& text) {
                                     print(text);
                                     return !interrupted();
                                   });
  if (max_tokens > 0 && !generation.text.ends_with('\n')) print("\n");
  const auto fed = static_cast<std::ptrdiff_t>(session.tokens() - read);
  conversation.answer(generation.text, {generation.tokens.begin() + fed, generation.tokens.end()});
  return generation;
}

Session load_session(const Model& model, const std::string& path, Conversation& conversation) {
  std::string said;
  Session session = Session::load(model, path, &said);
  try {
    conversation.from_json(said);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", path, e.what()));
  }
  return session;
}

}  // namespace restkv::cli
