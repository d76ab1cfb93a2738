#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/prompt_sources.h"
#include "cli/run_stats.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/signals.h"
#include "cli/turn.h"
#include "engine/kept_tokens.h"
#include "engine/snapshot.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

struct RunFlags {
  std::string model;
  PromptSources prompt;
  std::string system;
  bool raw = false;
  bool parse_special = false;
  std::string load_cache, save_cache;
  size_t max_tokens = 256;
  int threads = 0;
  SamplingFlags sampling;
  SessionFlags session{0, "restkv", BudgetForm::kAny};
  bool stats = false;
  std::string stats_json;
};

/// A conversation of one turn, or a plain text where there is no template or none is wanted.
Conversation new_conversation(const RunFlags& flags, const Tokenizer& tokenizer) {
  if (!flags.raw && tokenizer.has_chat_template()) {
    return Conversation(tokenizer, to_utf8(flags.system, "--system"), flags.parse_special);
  }
  if (!flags.system.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                flags.raw ? "--system has no effect with --raw"
                          : "--system needs a chat template, which this model does not have");
  }
  if (!flags.raw) {
    notice(fmt::format("{} has no chat template (a base model?); the prompt is fed as it is",
                       flags.model));
  }
  return Conversation::plain_text(tokenizer, flags.raw || flags.parse_special);
}

void check_flags(const RunFlags& flags) {
  const auto refuse = [](const char* message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  refuse_standard_output("--save-cache", flags.save_cache);
  if (flags.max_tokens == 0 && flags.save_cache.empty()) {
    refuse("--max-tokens 0 only reads the prompt; keep what was read with --save-cache FILE");
  }
  if (flags.raw && flags.parse_special) {
    refuse("--parse-special has no effect with --raw, which always parses control tokens");
  }
  if (flags.load_cache.empty()) return;
  if (flags.parse_special) {
    refuse("--parse-special has no effect with --load-cache, which goes on as it was begun");
  }
  if (flags.raw) refuse("--raw has no effect with --load-cache, which goes on as it was begun");
  if (!flags.system.empty()) {
    refuse("--system has no effect with --load-cache: the conversation has begun already");
  }
}

void check_files(const RunFlags& flags) {
  CommandFiles files;
  files.reads("--model", flags.model);
  for (const auto& [flag, file] : flags.session.files()) files.reads(flag, file);
  for (const std::string& file : flags.prompt.files()) files.reads("--file", file);
  if (!flags.save_cache.empty()) {
    files.writes("--save-cache", flags.save_cache);
    require_replaceable_by_snapshot(flags.save_cache);
  }
  // After --save-cache: a snapshot may be replaced by the one that goes on from it.
  files.reads("--load-cache", flags.load_cache);
  files.writes("--stats-json", flags.stats_json);
}

/// Nobody who does not know the default budget expects that most of a long prompt is forgotten.
void tell_what_was_dropped(const Session& session, const ModelConfig& config) {
  const double held = tokens_held(session.cache(), config);
  if (held == 0 || held >= static_cast<double>(session.tokens())) return;
  notice(fmt::format("kept {:.0f} of {} tokens per KV head; --budget N keeps N, --method full all",
                     held, session.tokens()));
}

void run_model(const RunFlags& flags, RunStats& stats) {
  require_model(flags.model);
  check_flags(flags);
  check_files(flags);
  const SamplingOptions sampling = flags.sampling.resolve();
  std::optional<SessionOptions> options;  // of a loaded session: those it was made with
  if (flags.load_cache.empty()) {
    options = flags.session.session();
  } else {
    flags.session.check_for_loading();
  }
  if (flags.session.measures_recall() && !flags.stats && flags.stats_json.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--sparse-recall is shown by --stats and --stats-json alone; add one of them");
  }
  const std::string prompt = flags.prompt.read();

  const std::string path = model_file(flags.model);
  const Stopwatch loading;
  const Model model(path, flags.session.model());
  const Engine engine(model);
  const Tokenizer tokenizer(path);
  Sampler sampler(sampling, model.config().vocabulary);
  stats.load_seconds = loading.seconds();
  stats.layers = model.config().layers;
  stats.window_layers = stats.layers - model.config().global_layers();

  Conversation conversation =
      options ? new_conversation(flags, tokenizer) : Conversation(tokenizer);
  if (options && repeat_chunk(options->compression) > 0) {
    options->repeat = conversation.repeat_prompt();
  }
  const Stopwatch watch;
  Session session =
      options ? Session(engine, *options) : load_session(engine, flags.load_cache, conversation);
  if (!options) {
    stats.cache_load_seconds = watch.seconds();
    flags.session.change(session);
    tell_what_snapshots_lack(sampling);
  }
  const CompressionOptions& compression = session.options().compression;
  stats.method = compression.method;
  if (compression.method != "full") stats.budget = budget_of(compression);
  stats.kv_type = kv_type_name(session.options().kv_type);
  stats.sparse_options = session.options().sparse;

  require_room(session, model.config(), tokenizer, prompt);
  const Conversation::Turn turn = conversation.ask(prompt);
  if (turn.from_the_start && session.tokens() > 0) {
    notice("the chat template rewrites what was said: reading it all again");
    session = Session(engine, session.options());
  }
  if (const auto share = flags.session.share()) {
    stats.budget = {.tokens = share->of(turn.tokens.size())};
    session.set_budget(stats.budget.tokens);
  }
  stats.cached_tokens = session.tokens();
  stats.prompt_tokens = turn.tokens.size();
  stats.kv_bytes_full = model.config().kv_bytes(stats.cached_tokens + stats.prompt_tokens);
  require_fit(session, model.config().context_length, turn.tokens.size(), flags.max_tokens);

  catch_interrupts();
  const double compressed_before = session.compress_seconds();
  stats.prefill_seconds = read_tokens(session, turn.tokens, "reading the prompt");
  stats.compress_seconds = session.compress_seconds() - compressed_before;
  stats.sparse = session.sparse_report();
  stats.kv_bytes_kept = session.cache().kept_bytes();
  stats.kept_of_layers = kept_of_layers(session.cache(), model.config());
  // A loaded cache has the budget that it was made with.
  if (options && !flags.session.budget_given()) tell_what_was_dropped(session, model.config());

  const GenerationResult generation =
      answer(session, conversation, tokenizer, sampler, flags.max_tokens);
  stats.generated_tokens = generation.tokens.size();
  stats.decode_tokens_per_second = generation.tokens_per_second();
  if (flags.max_tokens > 0) stats.finish_reason = finish_reason_name(generation.finish_reason);
  if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
  if (flags.max_tokens > 0 && generation.finish_reason == FinishReason::kLength) {
    notice(fmt::format("stopped at --max-tokens {}", flags.max_tokens));
  }
  release_interrupts();  // what is written may be a pipe, whose reader one would wait for
  if (flags.save_cache.empty()) return;
  session.compress();  // as after every turn of a chat
  session.save(flags.save_cache, conversation.to_json());
}

int run(const RunFlags& flags) {
  use_threads(flags.threads);
  RunStats stats;
  std::optional<Error> interruption;
  try {
    run_model(flags, stats);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInterrupted) throw;
    interruption = e;
    stats.interrupted = true;
  }
  if (flags.stats || stats.interrupted) say("\n" + stats.text());
  if (!flags.stats_json.empty()) write_output(flags.stats_json, stats.json());
  if (interruption) throw *interruption;
  return kSuccess;
}

}  // namespace

std::function<int()> declare_run(ArgumentParser& parser) {
  auto flags = std::make_shared<RunFlags>();
  declare_model(parser, flags->model);
  flags->prompt.declare(parser);
  parser.add("--system", flags->system, "system message of the chat template", "TEXT");
  parser.add_flag("--raw", flags->raw, "feed the prompt as it is, without the chat template");
  parser.add_flag("--parse-special", flags->parse_special,
                  "control tokens written in the prompt (<|im_end|>) are control tokens, not text");
  parser.add("--save-cache", flags->save_cache,
             "save the conversation with its cache, after the answer", "FILE");
  parser.add("--load-cache", flags->load_cache,
             "go on with a saved one: the prompt is its next turn", "FILE");
  parser.add("-n,--max-tokens", flags->max_tokens, "most tokens to generate; 0: only read", "N")
      .range(0, 1 << 30);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  parser.add_flag("--stats", flags->stats, "print what the run cost, on standard error");
  parser.add("--stats-json", flags->stats_json,
             "write the same as JSON; - is standard output, after the answer", "FILE");
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  parser.set_footer(
      "Examples:\n"
      "  restkv run -m model.gguf -p 'What is the capital of France?'\n"
      "  restkv run -m model.gguf -f report.txt -p 'Who wrote it?' --budget 512 --stats\n"
      "  restkv run -m model.gguf -f report.txt -p 'Who wrote it?' --budget 25%\n"
      "  restkv run -m model.gguf -f report.txt -p 'Who wrote it?' --budget auto --tolerance 0.05\n"
      "  cat report.txt | restkv run -m model.gguf -p 'Summarise it.' --temp 0.7\n"
      "  restkv run -m model.gguf -f book.txt --prefill chunked --positions compact --budget 2048\n"
      "  restkv run -m model.gguf -f book.txt --sparse xattention:threshold=0.95 --stats\n"
      "  restkv run -m model.gguf -f report.txt -n 0 --save-cache report.rkv\n"
      "  restkv run -m model.gguf --load-cache report.rkv -p 'Who wrote it?'\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  return [flags] { return run(*flags); };
}

}  // namespace restkv::cli
