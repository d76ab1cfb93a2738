#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/parse_number.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/line_reader.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/run_stats.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/turn.h"
#include "engine/kept_tokens.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

constexpr std::string_view kHelp =
    "Type what you want to say, or\n"
    "  /stats        what the cache holds and what the conversation cost\n"
    "  /budget N     keep N tokens per KV head from now on\n"
    "  /save FILE    save the conversation and its cache\n"
    "  /load FILE    go on with a saved one\n"
    "  /reset        forget everything but the system message\n"
    "  /quit         end (or Ctrl-D)\n"
    "Ctrl-C stops an answer.";

struct ChatFlags {
  std::string model, system, load;
  bool parse_special = false;
  size_t max_tokens = 512;
  int threads = 0;
  SamplingFlags sampling;
  SessionFlags session;
};

class Chat {
 public:
  Chat(const ChatFlags& flags, const std::string& path, const SamplingOptions& sampling,
       const SessionOptions& session)
      : flags_(flags),
        sampling_(sampling),
        model_(path, flags.session.model()),
        engine_(model_),
        tokenizer_(path),
        conversation_(tokenizer_, to_utf8(flags.system, "--system"), flags.parse_special),
        session_(engine_, with_repeat_prompt(session)) {
    if (!tokenizer_.has_chat_template()) {
      throw Error(ErrorCode::kUnsupported,
                  flags.model + ": has no chat template (a base model?); use restkv run --raw");
    }
    sampler_.emplace(sampling_, model_.config().vocabulary);
    if (flags.load.empty()) return;
    if (flags.parse_special) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--parse-special has no effect with --load, which goes on as it was begun");
    }
    if (!flags.system.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--system has no effect with --load: the conversation has begun already");
    }
    load(flags.load);
    flags.session.change(session_);
  }

  /// Returns whether nothing went wrong; at a terminal, whoever types has seen what did.
  bool run() {
    bool all_well = true;
    LineReader lines;
    if (lines.at_terminal()) say("/help lists what can be typed besides questions; Ctrl-D ends.");
    while (!ended_) {
      const std::optional<std::string> line = lines.next();
      if (!line) break;
      if (line->find_first_not_of(" \t") == std::string::npos) continue;
      try {
        const std::string text = to_utf8(*line, fmt::format("line {}", lines.number()));
        if (text.starts_with('/')) {
          command(text);
        } else {
          turn(text);
        }
      } catch (const OutputError&) {
        throw;  // nobody listens
      } catch (const Error& e) {
        all_well = false;
        notice(e.what());
      } catch (const std::bad_alloc&) {
        all_well = false;
        notice("out of memory; what was said before is kept: go on with less, or /save it");
      }
    }
    return all_well || lines.at_terminal();
  }

 private:
  /// What a method needs that lets the model repeat what it reads.
  [[nodiscard]] SessionOptions with_repeat_prompt(SessionOptions options) const {
    if (repeat_chunk(options.compression) > 0 && tokenizer_.has_chat_template()) {
      options.repeat = conversation_.repeat_prompt();
    }
    return options;
  }

  /// One question and its answer. What goes wrong leaves the conversation as it was before.
  void turn(const std::string& text) {
    Session session_before = session_.fork();
    Conversation conversation_before = conversation_;
    const auto undo = [&] {
      session_ = std::move(session_before);
      conversation_ = std::move(conversation_before);
    };
    try {
      answer(text);
    } catch (const Error& e) {
      undo();
      if (e.code() != ErrorCode::kInterrupted) throw;
      say("interrupted while reading: nothing was said");
    } catch (const std::bad_alloc&) {
      undo();
      throw;
    }
  }

  void answer(const std::string& text) {
    const double compressed_before = session_.compress_seconds();
    require_room(session_, model_.config(), tokenizer_, text);
    const Conversation::Turn turn = conversation_.ask(text);
    if (turn.from_the_start) {
      say("(the chat template rewrites what was said: reading the whole conversation again)");
      session_ = Session(engine_, session_.options());
    }
    const size_t context = model_.config().context_length;
    require_fit(session_, context, turn.tokens.size(), 1);
    const size_t room = session_.room_after(turn.tokens.size()).value();
    const double read_seconds = read_tokens(session_, turn.tokens, "reading");
    const GenerationResult generation = cli::answer(session_, conversation_, tokenizer_, *sampler_,
                                                    std::min(flags_.max_tokens, room));
    if (room < flags_.max_tokens && generation.tokens.size() == room) {
      say(fmt::format("(the answer ends where the model's context of {} does)", context));
    }
    session_.compress();
    ++turns_;
    say(
        fmt::format("[turn {}: read {} tokens in {:.2f} s, wrote {} ({:.1f} tokens/s), "
                    "compression {:.3f} s; cache {:.0f} tokens per head, {}{}]",
                    turns_, turn.tokens.size(), read_seconds, generation.tokens.size(),
                    generation.tokens_per_second(), session_.compress_seconds() - compressed_before,
                    tokens_held(session_.cache(), model_.config()),
                    human_bytes(static_cast<double>(session_.cache().kept_bytes())),
                    generation.tokens.size() == flags_.max_tokens
                        ? fmt::format("; stopped at --max-tokens {}", flags_.max_tokens)
                        : ""));
  }

  void command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const size_t begin = space == std::string::npos ? space : line.find_first_not_of(' ', space);
    std::string argument = begin == std::string::npos ? "" : line.substr(begin);
    argument.resize(argument.find_last_not_of(' ') + 1);
    const bool takes_one = name == "/save" || name == "/load" || name == "/budget";
    if (argument.empty() && takes_one) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{0} needs {1}: {0} {1}", name, name == "/budget" ? "N" : "FILE"));
    }
    if (!argument.empty() && !takes_one) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no command {} with {} behind it; /help lists them", name,
                              argument));
    }
    if (name == "/help") {
      say(kHelp);
    } else if (name == "/quit") {
      ended_ = true;
    } else if (name == "/reset") {
      reset();
    } else if (name == "/stats") {
      stats();
    } else if (name == "/budget") {
      budget(argument);
    } else if (name == "/save") {
      refuse_standard_output("/save", argument);
      session_.save(argument, conversation_.to_json());
      say(fmt::format("saved in {}", argument));
    } else if (name == "/load") {
      load(argument);
    } else {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no command {}; /help lists them", name));
    }
  }

  void reset() {
    session_ = Session(engine_, session_.options());
    conversation_ = conversation_.begun_anew();
    sampler_.emplace(sampling_, model_.config().vocabulary);
    turns_ = 0;
    say("everything is forgotten");
  }

  void budget(std::string_view text) {
    int tokens = 0;
    if (!parse_number(text, tokens)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("/budget is \"{}\"; expected {}", text, number_wanted<int>()));
    }
    session_.set_budget(tokens);
    session_.compress();
    say(fmt::format("budget {}", budget_of(session_.options().compression).text()));
  }

  void load(const std::string& path) {
    const Stopwatch watch;
    Conversation conversation(tokenizer_);
    Session session = load_session(engine_, path, conversation);
    if (conversation.is_plain_text()) {
      throw Error(ErrorCode::kInput,
                  path + ": holds a text without turns; go on with restkv run --load-cache");
    }
    session.set_sparse(session_.options().sparse);
    session_ = std::move(session);
    conversation_ = std::move(conversation);
    sampler_.emplace(sampling_, model_.config().vocabulary);
    tell_what_snapshots_lack(sampling_);
    say(fmt::format("loaded {} in {:.3f} s: {} tokens were read, method {} with budget {}", path,
                    watch.seconds(), session_.tokens(), session_.options().compression.method,
                    budget_of(session_.options().compression).text()));
  }

  void stats() const {
    const auto bytes = [](size_t count) { return human_bytes(static_cast<double>(count)); };
    const CompressionOptions& options = session_.options().compression;
    const KvCache& cache = session_.cache();
    const auto row = [](std::string_view name, const std::string& value) {
      say(fmt::format("{:<22} {}", name, value));
    };
    row("method", options.method == "full"
                      ? options.method
                      : fmt::format("{} (budget {})", options.method, budget_of(options).text()));
    row("turns", fmt::format("{}", turns_));
    row("tokens in all", fmt::format("{}", session_.tokens()));
    row("cache",
        fmt::format("{:.0f} tokens per head, {} of {} ({})", tokens_held(cache, model_.config()),
                    bytes(cache.kept_bytes()), bytes(model_.config().kv_bytes(session_.tokens())),
                    kv_type_name(session_.options().kv_type)));
    if (chooses_budget(options)) {
      row("tokens per KV head", kept_text(kept_of_layers(cache, model_.config())));
    }
    row("compression", fmt::format("{:.3f} s", session_.compress_seconds()));
    row("peak resident memory", bytes(peak_resident_bytes()));
  }

  const ChatFlags& flags_;
  SamplingOptions sampling_;
  Model model_;
  Engine engine_;
  Tokenizer tokenizer_;
  Conversation conversation_;
  Session session_;
  std::optional<Sampler> sampler_;
  size_t turns_ = 0;
  bool ended_ = false;
};

int chat(const ChatFlags& flags) {
  require_model(flags.model);
  use_threads(flags.threads);
  const SamplingOptions sampling = flags.sampling.resolve();
  SessionOptions session;  // a loaded conversation has its own
  if (flags.load.empty()) {
    session = flags.session.session();
  } else {
    flags.session.check_for_loading();
  }
  return Chat(flags, model_file(flags.model), sampling, session).run() ? kSuccess : kFailure;
}

}  // namespace

std::function<int()> declare_chat(ArgumentParser& parser) {
  auto flags = std::make_shared<ChatFlags>();
  declare_model(parser, flags->model);
  parser.add("--system", flags->system, "system message", "TEXT");
  parser.add_flag("--parse-special", flags->parse_special,
                  "control tokens typed into a message (<|im_end|>) are control tokens, not text");
  parser.add("--load", flags->load, "go on with a conversation that /save wrote", "FILE");
  parser.add("-n,--max-tokens", flags->max_tokens, "most tokens of an answer", "N")
      .range(1, 1 << 30);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  parser.set_footer(
      "Examples:\n"
      "  restkv chat -m model.gguf --budget 512\n"
      "  printf 'My name is Ada.\\nWhat is my name?\\n' | restkv chat -m model.gguf\n"
      "/help, typed into the chat, lists its commands.\n"
      "Exit codes: 0 done, 1 a line that was piped in failed (or model, input or output), 2 wrong "
      "options.");
  return [flags] { return chat(*flags); };
}

}  // namespace restkv::cli
