#include "eval/multi_turn.h"

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/stopwatch.h"
#include "engine/kept_tokens.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// Renders messages piece by piece, so that a conversation can be continued on its cache.
class Script {
 public:
  Script(const Tokenizer& tokenizer, const PromptOptions& options)
      : tokenizer_(tokenizer), options_(options) {}

  /// The beginning, up to where the answer to `message` begins.
  [[nodiscard]] ChatText open(const std::string& message) const {
    if (!options_.chat) return {.text = message + "\n\n", .contents = {}};
    return in_chat(tokenizer_, message, options_);
  }

  /// The text between an answer and the next one, found by rendering a conversation with a short
  /// answer.
  [[nodiscard]] ChatText next(const std::string& message) const {
    if (!options_.chat) return {.text = "\n\n" + message + "\n\n", .contents = {}};
    const std::string question = "Q";
    const std::string answer = "A";
    const std::array<ChatMessage, 3> messages{
        {{"user", question}, {"assistant", answer}, {"user", message}}};
    const std::string before = open(question).text + answer;
    const ChatText whole = tokenizer_.format_chat(messages, options_.parse_special);
    if (!whole.text.starts_with(before)) {
      throw Error(ErrorCode::kUnsupported,
                  "the model's chat template changes earlier messages when new ones come, so no "
                  "cache can hold a conversation; turn the chat template off");
    }
    return whole.part(before.size());
  }

  /// An answer between `open` or `next` and the next `next`.
  [[nodiscard]] ChatText said(std::string answer) const {
    ChatText text{.text = std::move(answer), .contents = {}};
    if (options_.chat && !options_.parse_special) text.contents = {{0, text.text.size()}};
    return text;
  }

 private:
  const Tokenizer& tokenizer_;
  const PromptOptions& options_;
};

/// State of a conversation: its session, and the tokens that are not in the cache yet.
struct State {
  Session session;
  std::vector<int32_t> pending;
  bool begun = false;  ///< There was a message.

  [[nodiscard]] State copy() const { return {session.fork(), pending, begun}; }
};

size_t cached_tokens(const KvCache& cache) {
  size_t rows = 0;
  size_t heads = 0;
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    const size_t count = cache.heads(layer).size();
    for (size_t head = 0; head < count; ++head) rows += cache.positions(layer, head).size();
    heads += count;
  }
  return heads == 0 ? 0 : (rows + heads / 2) / heads;
}

}  // namespace

MultiTurnResult converse(const Model& model, const Tokenizer& tokenizer, const Answerer& answerer,
                         const Sample& sample, const SessionOptions& options,
                         const PromptOptions& prompt, const std::function<bool(double)>& progress) {
  const Script script(tokenizer, prompt);
  MultiTurnResult result;
  size_t done = 0;
  const auto go_on = [&](double part) {
    return progress((static_cast<double>(done) + part) / static_cast<double>(sample.turns.size()));
  };
  State state{.session = Session(model, options), .pending = {}};
  const auto append_pending = [&](const ChatText& text, bool first) {
    const std::vector<int32_t> tokens = tokenizer.encode(text, first && sample.add_special);
    state.pending.insert(state.pending.end(), tokens.begin(), tokens.end());
  };
  const auto read = [&] {
    const Stopwatch watch;
    const double compressed = state.session.compress_seconds();
    state.session.append(state.pending, [&](double part) { return go_on(0.7 * part); });
    const double compressing = state.session.compress_seconds() - compressed;
    result.prefill_seconds += watch.seconds() - compressing;
    result.compress_seconds += compressing;
    result.read_tokens += state.pending.size();
    state.pending.clear();
  };

  // The context begins the first message, but is read and compressed before the rest of it.
  const auto opening = [&](const Turn& turn) {
    const ChatText chat = script.open(sample.prompt + turn.prompt);
    const size_t at = chat.text.find(sample.prompt);
    if (at == std::string::npos) {
      throw Error(ErrorCode::kUnsupported,
                  "the model's chat template changes the context; turn the chat template off");
    }
    const size_t end = sample.prompt.empty() ? 0 : at + sample.prompt.size();
    return std::pair(chat.part(0, end), chat.part(end));
  };
  if (const ChatText context = opening(sample.turns.at(0)).first; !context.text.empty()) {
    append_pending(context, true);
    read();
  }

  for (const Turn& turn : sample.turns) {
    std::optional<State> before;
    if (turn.undone) before = state.copy();
    ChatText message = state.begun ? script.next(turn.prompt) : opening(turn).second;
    message.text += turn.answer_prefix;
    append_pending(message, state.session.tokens() == 0);
    state.begun = true;
    read();
    result.timed.answer.turn_tokens.push_back(cached_tokens(state.session.cache()));
    result.kv_bytes = state.session.cache().kept_bytes();
    result.kept = tokens_held(state.session.cache(), model.config());

    // With a forced answer, the model's own answer is generated on a copy.
    std::optional<Session> side;
    if (!turn.forced_answer.empty()) side = state.session.fork();
    Session& answering = side ? *side : state.session;
    const auto feed = [&](int32_t token) {
      if (!go_on(0.7)) throw Error(ErrorCode::kInterrupted, "interrupted");
      const Stopwatch watch;
      const auto logits = answering.append(token);
      result.timed.decode_seconds += watch.seconds();
      ++result.timed.decode_steps;
      return logits;
    };
    const std::vector<float> logits(answering.logits().begin(), answering.logits().end());
    SampledText answer = answerer.draw(sample, sample.sampling.seed, logits, feed);
    result.timed.answer.turn_texts.push_back(std::move(answer.text));

    if (before) {
      state = std::move(*before);
    } else if (side) {
      if (!turn.forced_answer.starts_with(turn.answer_prefix)) {
        throw Error(ErrorCode::kInput, "a forced answer does not begin with the answer's prefix");
      }
      append_pending(script.said(turn.forced_answer.substr(turn.answer_prefix.size())), false);
    } else if (answer.pending) {
      state.pending.push_back(*answer.pending);
    }
    ++done;
  }
  return result;
}

}  // namespace restkv::eval
