#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/stopwatch.h"
#include "cli/answer_flags.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/prompt_sources.h"
#include "cli/run_stats.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/shared_model.h"
#include "cli/signals.h"
#include "cli/system_flags.h"
#include "cli/turn.h"
#include "cluster/cluster.h"
#include "engine/kept_tokens.h"
#include "engine/snapshot.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"
#include "server/openai/token_logprobs.h"

namespace restkv::cli {
namespace {

/// Of the likely tokens beside each token: chat interfaces give as many.
constexpr double kMostLogprobs = 20;

struct RunFlags {
  std::string model;
  PromptSources prompt;
  SystemFlags system;
  bool raw = false;
  bool parse_special = false;
  std::string load_cache, save_cache;
  AnswerFlags answer;
  size_t logprobs = 0;
  int threads = 0;
  SamplingFlags sampling;
  SessionFlags session{0, "restkv", BudgetForm::kAny};
  bool stats = false;
  std::string stats_json;
  bool json = false;
};

/// A conversation of one turn, or a plain text where there is no template or none is wanted.
Conversation new_conversation(const RunFlags& flags, const Tokenizer& tokenizer) {
  if (flags.raw && flags.system.given()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no effect with --raw", flags.system.name()));
  }
  const std::string system = flags.raw ? "" : flags.system.message(tokenizer);
  if (!flags.raw && tokenizer.has_chat_template()) {
    return Conversation(tokenizer, system, flags.parse_special);
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
  if (flags.json && flags.stats_json == kStandardOutput) {
    refuse("--json and --stats-json - both write to standard output; leave one of them out");
  }
  if (flags.logprobs > 0 && !flags.json && flags.stats_json.empty()) {
    refuse("--logprobs is shown by --json and --stats-json alone; add one of them");
  }
  if (flags.answer.limit() == 0 && flags.save_cache.empty()) {
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
  flags.system.refuse_with_loaded();
}

void check_files(const RunFlags& flags) {
  CommandFiles files;
  files.reads("--model", flags.model);
  for (const auto& [flag, file] : flags.session.files()) files.reads(flag, file);
  for (const auto& [flag, file] : flags.answer.files()) files.reads(flag, file);
  for (const InputFile& file : flags.prompt.files()) files.reads("--file", file.path);
  if (!flags.save_cache.empty()) {
    files.writes("--save-cache", flags.save_cache);
    require_replaceable_by_snapshot(flags.save_cache);
  }
  // After --save-cache: a snapshot may be replaced by the one that goes on from it.
  files.reads("--load-cache", flags.load_cache);
  files.writes("--stats-json", flags.stats_json);
}

/// With `-n 0` the prompt is read for questions that come later.
bool only_reads(const RunFlags& flags) { return flags.answer.limit() == 0; }

SessionOptions session_options(const RunFlags& flags) {
  std::optional<SessionOptions> for_later;
  if (only_reads(flags)) for_later = flags.session.session_for_later_questions();
  return for_later ? *for_later : flags.session.session();
}

/// Nobody who does not know the default budget expects that most of a long prompt is forgotten.
void tell_what_was_dropped(const Session& session, const ModelConfig& config) {
  const double held = tokens_held(session.cache(), config);
  if (held == 0 || held >= static_cast<double>(session.tokens())) return;
  notice(fmt::format("kept {:.0f} of {} tokens per KV head; --budget N keeps N, --method full all",
                     held, session.tokens()));
}

Json logprobs_json(const GenerationResult& result, const Tokenizer& tokenizer) {
  std::vector<server::NamedLogprob> named;
  for (const TokenLogprob& token : result.logprobs)
    named.push_back(server::named(token, tokenizer));
  return server::logprobs_content(named);
}

void run_model(RunFlags& flags, RunStats& stats) {
  Communicator& all = cluster();
  require_model(flags.model);
  check_flags(flags);
  if (!flags.save_cache.empty()) require_one_process(all, "--save-cache");
  if (!flags.load_cache.empty()) require_one_process(all, "--load-cache");
  flags.prompt.find_files();
  check_files(flags);
  flags.answer.read();
  const SamplingOptions sampling = flags.sampling.resolve();
  stats.model = flags.model;
  stats.sampling = sampling;
  std::optional<SessionOptions> options;  // of a loaded session: those it was made with
  if (flags.load_cache.empty()) {
    options = session_options(flags);
  } else {
    flags.session.check_for_loading();
  }
  if (flags.session.measures_recall() && !flags.stats && flags.stats_json.empty() && !flags.json) {
    throw Error(ErrorCode::kInvalidArgument,
                "--sparse-recall is shown by --stats, --stats-json and --json alone; add one of "
                "them");
  }
  const std::string prompt = flags.prompt.read();

  const std::string path = model_file(flags.model);
  const Stopwatch loading;
  const std::unique_ptr<Model> opened = open_model(all, path, flags.session.model());
  const Model& model = *opened;
  const Leading leading(model);
  const Engine engine(model);
  const Tokenizer tokenizer(path);
  Sampler sampler(sampling, model.config().vocabulary);
  stats.load_seconds = loading.seconds();
  stats.model_name = model.config().name;
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
    if (flags.session.budget_given()) session.compress();
    flags.sampling.tell_what_snapshots_lack();
  }
  const CompressionOptions& compression = session.options().compression;
  stats.method = compression.method;
  if (compression.method != "full") stats.budget = budget_of(compression);
  stats.kv_type = kv_type_name(session.options().kv_type);
  stats.sparse_options = session.options().sparse;

  require_room(session, model.config(), tokenizer, prompt);
  const bool about_document = conversation.has_document();
  const Conversation::Turn turn = only_reads(flags) && !conversation.is_plain_text()
                                      ? conversation.read_document(prompt)
                                      : conversation.ask(prompt);
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
  const size_t context = model.config().context_length;
  // What is kept of a document stays as it is; the question and its answer come on top.
  if (about_document && !only_reads(flags)) {
    session.reserve(turn.tokens.size() + flags.answer.max_tokens(context));
  }
  require_fit(session, context, turn.tokens.size(),
              flags.answer.unlimited() ? 1 : flags.answer.max_tokens(0));
  const size_t most = flags.answer.max_tokens(session.room_after(turn.tokens.size()).value_or(0));

  catch_interrupts();
  const double compressed_before = session.compress_seconds();
  stats.prefill_seconds = read_tokens(session, turn.tokens, "reading the prompt");
  stats.compress_seconds = session.compress_seconds() - compressed_before;
  stats.sparse = session.sparse_report();
  stats.kv_bytes_kept = session.cache().kept_bytes();
  stats.kept_of_layers = kept_of_layers(session.cache(), model.config());
  // A loaded cache has the budget that it was made with.
  if (options && !flags.session.budget_given()) tell_what_was_dropped(session, model.config());

  if (most > 0) {
    std::unique_ptr<TokenConstraint> constraint;
    GenerationOptions generation = flags.answer.options(tokenizer, most, constraint);
    if (flags.logprobs > 0) generation.logprobs = flags.logprobs;
    const Answered answered = answer(session, model.config(), conversation, tokenizer, sampler,
                                     std::move(generation), !flags.json);
    const GenerationResult& result = answered.result;
    stats.generated_tokens = result.tokens.size();
    stats.decode_tokens_per_second = result.tokens_per_second();
    stats.answer = result.text;
    stats.cuts = answered.cuts;
    if (flags.logprobs > 0) stats.logprobs = logprobs_json(result, tokenizer);
    stats.finish_reason = finish_reason_name(result.finish_reason);
    if (!interrupted() && result.finish_reason == FinishReason::kLength) {
      notice(flags.answer.unlimited()
                 ? fmt::format("stopped where the model's context of {} ends", context)
                 : fmt::format("stopped at --max-tokens {}", most));
    }
  }
  stats.kept_at_end = tokens_held(session.cache(), model.config());
  stats.kv_bytes_at_end = session.cache().kept_bytes();
  if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
  release_interrupts();  // what is written may be a pipe, whose reader one would wait for
  if (flags.save_cache.empty()) return;
  session.compress();  // as after every turn of a chat
  session.save(flags.save_cache, conversation.to_json());
}

int run(RunFlags& flags) {
  Communicator& all = cluster();
  use_threads(flags.threads, all.neighbours());
  if (all.rank() > 0) return follow_rank_0(all, flags.model, flags.session.model());
  RunStats stats;
  std::optional<Error> interruption;
  try {
    run_model(flags, stats);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInterrupted) throw;
    interruption = e;
    stats.interrupted = true;
  }
  if (all.size() > 1 && (flags.stats || flags.json || !flags.stats_json.empty())) {
    notice(fmt::format("memory and cache are those of rank 0, one of {} processes", all.size()));
  }
  if (flags.stats) say("\n" + stats.text());
  if (flags.json) print_answer(stats.json());
  if (!flags.stats_json.empty()) write_output(flags.stats_json, stats.json());
  if (interruption) throw *interruption;
  return kSuccess;
}

}  // namespace

std::function<int()> declare_run(ArgumentParser& parser) {
  auto flags = std::make_shared<RunFlags>();
  declare_model(parser, flags->model);
  flags->prompt.declare(parser);
  flags->system.declare(parser);
  parser.add_flag("--raw", flags->raw, "feed the prompt as it is, without the chat template");
  parser
      .add_flag("--parse-special", flags->parse_special,
                "control tokens written in the prompt (<|im_end|>) are control tokens, not text")
      .rare();
  parser.add("--save-cache", flags->save_cache,
             "save the conversation with its cache, after the answer", "FILE");
  parser.add("--load-cache", flags->load_cache,
             "go on with a saved one: the prompt is its next turn", "FILE");
  flags->answer.declare(parser, true);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  parser.add_flag("--stats", flags->stats, "print what the run cost, on standard error");
  parser.add("--stats-json", flags->stats_json,
             "write the same as JSON, with the answer; - is standard output, after the answer",
             "FILE");
  parser.add_flag("--json", flags->json, "print that JSON instead of the answer's text");
  parser
      .add(
          "--logprobs", flags->logprobs,
          "with --json or --stats-json: the probability of every token, and of so many likely ones",
          "N")
      .range(0, kMostLogprobs)
      .rare();
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  parser.set_footer(
      "Examples:\n"
      "  restkv run -m model.gguf -p 'What is the capital of France?'\n"
      "  restkv run -m model.gguf -f report.txt -p 'Who wrote it?' --budget 512 --stats\n"
      "  restkv run -m model.gguf -f src --glob '*.py' -p 'Where are files opened?' --budget 25%\n"
      "  cat report.txt | restkv run -m model.gguf -p 'Summarise it.' --temp 0.7\n"
      "  restkv run -m model.gguf -f book.txt --prefill chunked --positions compact --budget 2048\n"
      "  restkv run -m model.gguf -p 'A city and its country.' --json-schema schema.json\n"
      "  restkv run -m model.gguf -f report.txt -n 0 --save-cache report.rkv\n"
      "  restkv run -m model.gguf --load-cache report.rkv -p 'Who wrote it?'\n"
      "  mpirun -n 4 restkv run -m model.gguf -p 'Who are you?' < /dev/null\n"
      "-n 0 reads for questions that come later: by the method kvzip unless --method is given.\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  return [flags] { return run(*flags); };
}

}  // namespace restkv::cli
