#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/closest_name.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/answer_flags.h"
#include "cli/command.h"
#include "cli/folder_files.h"
#include "cli/kept_view.h"
#include "cli/message_reader.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/prompt_sources.h"
#include "cli/run_stats.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/system_flags.h"
#include "cli/text_editor.h"
#include "cli/turn.h"
#include "engine/kept_tokens.h"
#include "restkv/budget.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/slots.h"

namespace restkv::cli {
namespace {

constexpr std::string_view kHelp =
    "Type what you want to say, or\n"
    "  /file FILE    read a document; what you say next is about it\n"
    "  /retry        answer the last message once more, otherwise\n"
    "  /edit [TEXT]  change the last message (in $EDITOR without a text) and answer it\n"
    "  /kept         show the conversation with what is still remembered of it\n"
    "  /stats        what the cache holds and what the conversation cost\n"
    "  /budget N     keep N tokens per KV head from now on\n"
    "  /save FILE    save the conversation and its cache\n"
    "  /load FILE    go on with a saved one\n"
    "  /reset        forget everything but the system message\n"
    "  /quit         end (or Ctrl-D)\n"
    "A message may have several lines: pasted, between two \"\"\", or with a backslash at the end\n"
    "of each but the last. Ctrl-C stops an answer.";

/// A command, and whether it takes something behind it.
struct ChatCommand {
  std::string_view name;
  enum class Argument { kNone, kPerhaps, kOne } argument = Argument::kNone;
  std::string_view argument_name = {};
};
constexpr std::array kCommands{
    ChatCommand{"/help"},
    ChatCommand{"/file", ChatCommand::Argument::kOne, "FILE"},
    ChatCommand{"/retry"},
    ChatCommand{"/edit", ChatCommand::Argument::kPerhaps, "TEXT"},
    ChatCommand{"/kept"},
    ChatCommand{"/stats"},
    ChatCommand{"/budget", ChatCommand::Argument::kOne, "N"},
    ChatCommand{"/save", ChatCommand::Argument::kOne, "FILE"},
    ChatCommand{"/load", ChatCommand::Argument::kOne, "FILE"},
    ChatCommand{"/reset"},
    ChatCommand{"/quit"},
};

struct ChatFlags {
  std::string model, load;
  SystemFlags system;
  std::vector<std::string> files;
  FolderFlags folders;
  bool parse_special = false;
  int threads = 0;
  AnswerFlags answer;
  SamplingFlags sampling{kChatSampling};
  SessionFlags session;
};

class Chat {
 public:
  Chat(const ChatFlags& flags, const std::string& path, const SamplingOptions& sampling,
       const SessionOptions& session, std::optional<SessionOptions> of_documents)
      : flags_(flags),
        sampling_(sampling),
        model_(path, flags.session.model()),
        engine_(model_),
        tokenizer_(path),
        conversation_(tokenizer_,
                      flags.load.empty() ? flags.system.message(tokenizer_) : std::string(),
                      flags.parse_special),
        session_(engine_, with_repeat_prompt(session)),
        of_documents_(std::move(of_documents)) {
    if (!tokenizer_.has_chat_template()) {
      throw Error(ErrorCode::kUnsupported,
                  flags.model + ": has no chat template (a base model?); use restkv run --raw");
    }
    sampler_.emplace(sampling_, model_.config().vocabulary);
    if (flags.load.empty()) return;
    if (flags.parse_special) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--parse-special has no effect with --load-cache, which goes on as it was begun");
    }
    flags.system.refuse_with_loaded();
    load(flags.load);
    flags.session.change(session_);
  }

  /// Reads the documents of the command line.
  void begin(const std::vector<InputFile>& files) {
    for (const InputFile& file : files) document(file);
  }

  /// Returns whether nothing went wrong; at a terminal, whoever types has seen what did.
  bool run() {
    bool all_well = true;
    if (messages_.at_terminal()) {
      say("/help lists what can be typed besides questions; Ctrl-D ends.");
    }
    while (!ended_) {
      const std::optional<Message> message = messages_.next();
      if (!message) break;
      try {
        if (!message->fault.empty()) throw Error(ErrorCode::kInput, message->fault);
        if (trimmed(message->text).empty()) continue;
        if (message->text.starts_with('/')) {
          command(message->text);
        } else {
          turn(message->text);
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
    return all_well || messages_.at_terminal();
  }

 private:
  /// What a conversation is, apart from what samples its answers.
  struct State {
    Session session;
    Conversation conversation;
    std::vector<int32_t> history;
    std::optional<double> document_held;
    size_t turns = 0;
  };
  [[nodiscard]] State state() const {
    return {session_.fork(), conversation_, history_, document_held_, turns_};
  }
  void go_back_to(State before) {
    session_ = std::move(before.session);
    conversation_ = std::move(before.conversation);
    history_ = std::move(before.history);
    document_held_ = before.document_held;
    turns_ = before.turns;
  }

  /// What a method needs that lets the model repeat what it reads.
  [[nodiscard]] SessionOptions with_repeat_prompt(SessionOptions options) const {
    if (repeat_chunk(options.compression) > 0 && tokenizer_.has_chat_template()) {
      options.repeat = conversation_.repeat_prompt();
    }
    return options;
  }

  /// Does something to the conversation. What goes wrong leaves it as it was before. Returns it as
  /// it was before; nothing if the work was interrupted.
  template <class Work>
  std::optional<State> undoably(const Work& work) {
    State before = state();
    try {
      work();
    } catch (const Error& e) {
      go_back_to(std::move(before));
      if (e.code() != ErrorCode::kInterrupted) throw;
      say("interrupted while reading: nothing was said");
      return std::nullopt;
    } catch (const std::bad_alloc&) {
      go_back_to(std::move(before));
      throw;
    }
    return before;
  }

  /// One question and its answer; false: it was interrupted, and nothing was said.
  bool turn(const std::string& text) {
    std::optional<State> before = undoably([&] { answer(text); });
    if (!before) return false;
    last_ = std::move(before);
    last_message_ = text;
    return true;
  }

  /// Appends what a turn has to say, or the whole conversation again. Behind a document, it and an
  /// answer of so many tokens come on top of the budget. Returns the seconds.
  double read(const Conversation::Turn& turn, const char* title, size_t answer_tokens = 0) {
    if (turn.from_the_start && session_.tokens() > 0) {
      say("(the chat template rewrites what was said: reading the whole conversation again)");
      session_ = Session(engine_, session_.options());
      history_.clear();
      document_held_.reset();
    }
    if (document_held_ && answer_tokens > 0) session_.reserve(turn.tokens.size() + answer_tokens);
    require_fit(session_, model_.config().context_length, turn.tokens.size(), 1);
    const double seconds = read_tokens(session_, turn.tokens, title);
    history_.insert(history_.end(), turn.tokens.begin(), turn.tokens.end());
    return seconds;
  }

  void answer(const std::string& text) {
    const double compressed_before = session_.compress_seconds();
    require_room(session_, model_.config(), tokenizer_, text);
    const Conversation::Turn turn = conversation_.ask(text);
    const size_t context = model_.config().context_length;
    const double read_seconds = read(turn, "reading", flags_.answer.max_tokens(context));
    const size_t room = session_.room_after(0).value_or(0);
    const size_t most = std::min(flags_.answer.max_tokens(room), room);
    const size_t begun = session_.tokens();
    std::unique_ptr<TokenConstraint> constraint;
    const Answered answered =
        cli::answer(session_, model_.config(), conversation_, tokenizer_, *sampler_,
                    flags_.answer.options(tokenizer_, most, constraint));
    const GenerationResult& generation = answered.result;
    const auto fed = static_cast<std::ptrdiff_t>(session_.tokens() - begun);
    history_.insert(history_.end(), generation.tokens.begin(), generation.tokens.begin() + fed);
    const bool stopped = generation.finish_reason == FinishReason::kLength;
    if (stopped && most == room) {
      say(fmt::format("(the answer ends where the model's context of {} does)", context));
    }
    if (!has_room_on_top()) {
      session_.compress();
      document_held_.reset();
    }
    ++turns_;
    say(Tone::kAside,
        fmt::format(
            "[turn {}: read {} tokens in {:.2f} s, wrote {} ({:.1f} tokens/s), "
            "compression {:.3f} s; cache {:.0f} tokens per head, {}{}]",
            turns_, turn.tokens.size(), read_seconds, generation.tokens.size(),
            generation.tokens_per_second(), session_.compress_seconds() - compressed_before,
            tokens_held(session_.cache(), model_.config()),
            human_bytes(static_cast<double>(session_.cache().kept_bytes())),
            stopped && most < room ? fmt::format("; stopped at --max-tokens {}", most) : ""));
  }

  /// What is said about a document does not take its place in the cache, until it is as much as the
  /// budget.
  [[nodiscard]] bool has_room_on_top() const {
    if (!document_held_) return false;
    const double on_top = tokens_held(session_.cache(), model_.config()) - *document_held_;
    return on_top <= session_.options().compression.budget;
  }

  /// Goes over to the method for documents, which what was said before is read again for.
  void prepare_for_documents() {
    if (!of_documents_) return;
    SessionOptions options = with_repeat_prompt(*of_documents_);
    options.compression.budget = session_.options().compression.budget;
    Session session(engine_, options);
    if (!history_.empty()) {
      say(fmt::format("(reading the conversation again, by method {})",
                      options.compression.method));
      read_tokens(session, history_, "reading");
    }
    session_ = std::move(session);
    of_documents_.reset();
  }

  void document(const InputFile& file) {
    if (file.path == kStandardInput) {
      throw Error(ErrorCode::kInvalidArgument,
                  "a chat reads its messages from standard input; put the document into a file, or "
                  "use restkv run -f -");
    }
    const std::optional<SessionOptions> of_documents = of_documents_;
    const auto read_it = [&] {
      const std::string text = read_documents({file});
      prepare_for_documents();
      require_room(session_, model_.config(), tokenizer_, text);
      const Conversation::Turn turn = conversation_.read_document(text);
      const double seconds = read(turn, fmt::format("reading {}", file.path).c_str());
      document_held_ = tokens_held(session_.cache(), model_.config());
      say(fmt::format("{}: read {} tokens in {:.1f} s; {:.0f} of {} are kept per KV head ({})",
                      file.path, turn.tokens.size(), seconds,
                      tokens_held(session_.cache(), model_.config()), session_.tokens(),
                      session_.options().compression.method));
    };
    try {
      if (undoably(read_it)) {
        last_.reset();
      } else {
        of_documents_ = of_documents;
      }
    } catch (...) {
      of_documents_ = of_documents;
      throw;
    }
  }

  /// Answers a message in place of the last one.
  void replace_last(const std::string& text) {
    State now = state();
    go_back_to(std::move(*last_));
    const auto restore = [&] {
      last_ = state();
      go_back_to(std::move(now));
    };
    try {
      if (!turn(text)) restore();
    } catch (...) {
      restore();
      throw;
    }
  }

  void require_last(std::string_view command) const {
    if (last_) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no message to answer again; say something first", command));
  }

  void retry() {
    require_last("/retry");
    SamplingOptions otherwise = sampling_;
    otherwise.seed = sampling_.seed % kMostSeed + ++retries_;
    if (otherwise.temperature == 0) otherwise.temperature = kRetryTemperature;
    sampler_.emplace(otherwise, model_.config().vocabulary);
    replace_last(std::string(last_message_));
    if (sampling_.temperature == 0) sampler_.emplace(sampling_, model_.config().vocabulary);
  }

  void edit(std::string text) {
    require_last("/edit");
    if (text.empty()) {
      if (!messages_.at_terminal()) {
        throw Error(ErrorCode::kInvalidArgument, "/edit needs a text here: /edit TEXT");
      }
      messages_.release_terminal();
      text = to_utf8(edited(last_message_), "the message");
      if (trimmed(text).empty()) {
        say("the message is empty: nothing was changed");
        return;
      }
      say("> " + text);
    }
    replace_last(text);
  }

  void kept() const {
    if (history_.size() != session_.tokens()) {
      throw Error(
          ErrorCode::kUnsupported,
          "/kept cannot show a loaded conversation, whose tokens are not those of its text");
    }
    const auto found = server::kept_tokens(model_.config(), session_, history_);
    if (!found) {
      throw Error(ErrorCode::kUnsupported,
                  "/kept has nothing to show with --positions compact, which numbers kept tokens "
                  "anew");
    }
    say_coloured(kept_view(*found, tokenizer_, shows_colours(STDERR_FILENO)));
  }

  void command(const std::string& line) {
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::string name = line.substr(0, end);
    const std::string argument(trimmed(std::string_view(line).substr(end)));
    const auto known = std::ranges::find(kCommands, name, &ChatCommand::name);
    if (known == kCommands.end()) {
      std::vector<std::string_view> names;
      for (const ChatCommand& each : kCommands) names.push_back(each.name);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no command {}{}; /help lists them", name,
                              did_you_mean(name, names)));
    }
    if (argument.empty() && known->argument == ChatCommand::Argument::kOne) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{0} needs {1}: {0} {1}", name, known->argument_name));
    }
    if (!argument.empty() && known->argument == ChatCommand::Argument::kNone) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no command {} with {} behind it; /help lists them", name,
                              argument));
    }
    if (name == "/help") {
      say(kHelp);
    } else if (name == "/file") {
      document({.path = argument});
    } else if (name == "/retry") {
      retry();
    } else if (name == "/edit") {
      edit(argument);
    } else if (name == "/kept") {
      kept();
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
    } else {
      load(argument);
    }
  }

  void reset() {
    session_ = Session(engine_, session_.options());
    conversation_ = conversation_.begun_anew();
    sampler_.emplace(sampling_, model_.config().vocabulary);
    history_.clear();
    document_held_.reset();
    last_.reset();
    turns_ = 0;
    say("everything is forgotten");
  }

  void budget(std::string_view text) {
    const Budget budget = parse_budget(text);
    if (budget.share > 0 || budget.tolerance > 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("/budget is {}, but what was said has been cut already; give a "
                              "number of tokens",
                              budget.text()));
    }
    session_.set_budget(budget.tokens);
    session_.compress();
    document_held_.reset();
    last_.reset();  // it would bring the old budget back
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
    find_history();
    document_held_.reset();
    if (conversation_.has_document()) {
      document_held_ = tokens_held(session_.cache(), model_.config());
    }
    of_documents_.reset();  // it keeps the method that it was begun with
    last_.reset();
    flags_.sampling.tell_what_snapshots_lack();
    say(fmt::format("loaded {} in {:.3f} s: {} tokens were read, method {} with budget {}", path,
                    watch.seconds(), session_.tokens(), session_.options().compression.method,
                    budget_of(session_.options().compression).text()));
  }

  /// Tokens of a loaded conversation's text. The model may have written others for the same text;
  /// then they are unknown.
  void find_history() {
    history_ = tokenizer_.encode(conversation_.text(), true, true);
    const size_t read = session_.tokens();
    const bool fits = history_.size() >= read && history_.size() <= read + 1;
    history_.resize(fits ? read : 0);
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

  /// Seeds of `/retry` stay below the one that libllama takes for any.
  static constexpr uint32_t kMostSeed = 1U << 30U;
  /// Of answers that are wanted otherwise, where the most likely token always wins.
  static constexpr float kRetryTemperature = 0.7F;

  const ChatFlags& flags_;
  SamplingOptions sampling_;
  Model model_;
  Engine engine_;
  Tokenizer tokenizer_;
  Conversation conversation_;
  Session session_;
  /// For the first document; nothing if the session needs no other method.
  std::optional<SessionOptions> of_documents_;
  std::optional<Sampler> sampler_;
  MessageReader messages_;
  std::vector<int32_t> history_;  ///< The tokens that the session has read, if they are known.
  std::optional<double> document_held_;  ///< Tokens per KV head when a document had been read.
  std::optional<State> last_;            ///< Before the last message.
  std::string last_message_;
  uint32_t retries_ = 0;
  size_t turns_ = 0;
  bool ended_ = false;
};

int chat(ChatFlags& flags) {
  require_model(flags.model);
  use_threads(flags.threads);
  flags.answer.read();
  if (flags.answer.limit() == 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "--max-tokens 0 would leave every message without an answer; give 1 or more, or -1");
  }
  const std::vector<InputFile> files = flags.folders.files(flags.files);
  const SamplingOptions sampling = flags.sampling.resolve();
  SessionOptions session;  // a loaded conversation has its own
  std::optional<SessionOptions> of_documents;
  if (flags.load.empty()) {
    session = flags.session.session();
    of_documents = flags.session.session_for_later_questions();
  } else {
    flags.session.check_for_loading();
  }
  Chat chat(flags, model_file(flags.model), sampling, session, std::move(of_documents));
  chat.begin(files);
  return chat.run() ? kSuccess : kFailure;
}

}  // namespace

std::function<int()> declare_chat(ArgumentParser& parser) {
  auto flags = std::make_shared<ChatFlags>();
  declare_model(parser, flags->model);
  parser.add_repeated("-f,--file", flags->files,
                      "document to talk about, read at the beginning; may be given several times",
                      "FILE");
  flags->folders.declare(parser);
  flags->system.declare(parser);
  parser
      .add_flag("--parse-special", flags->parse_special,
                "control tokens typed into a message (<|im_end|>) are control tokens, not text")
      .rare();
  parser.add("--load-cache", flags->load,
             "go on with a conversation that /save or run --save-cache wrote", "FILE");
  flags->answer.declare(parser, false);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  parser.set_footer(
      "Documents (-f, /file) are compressed by the method kvzip unless --method says otherwise.\n"
      "Examples:\n"
      "  restkv chat -m model.gguf\n"
      "  restkv chat -m model.gguf -f report.txt --budget 1024\n"
      "  printf 'What is the capital of France?\\nAnd of Italy?\\n' | restkv chat -m model.gguf\n"
      "/help, typed into the chat, lists its commands.\n"
      "Exit codes: 0 done, 1 a line that was piped in failed (or model, input or output), 2 wrong "
      "options.");
  return [flags] { return chat(*flags); };
}

}  // namespace restkv::cli
