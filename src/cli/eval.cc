#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/parse_number.h"
#include "base/progress.h"
#include "base/system.h"
#include "cli/command.h"
#include "cli/compression_flags.h"
#include "cli/model_argument.h"
#include "cli/model_flags.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/recipe_flags.h"
#include "cli/signals.h"
#include "cluster/cluster.h"
#include "eval/notices.h"
#include "eval/recipe.h"
#include "eval/results.h"
#include "eval/runner.h"
#include "report/report.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

/// The options that say what is asked, not where or on which machine: a recipe may hold them.
constexpr const char* kAsked = "What is asked (also in recipes)";

struct EvalFlags {
  bool list = false;
  std::string recipe;
  std::string suite, model, data, output, profile;
  std::vector<std::string> methods{"snapkv", "restkv"};
  std::vector<std::string> budgets{"128", "512"};
  ChosenBudgetFlags chosen;
  bool no_full = false;
  std::vector<std::string> tasks;
  std::vector<size_t> lengths;
  size_t limit = 0;
  uint64_t seed = 42;
  size_t max_prompt = 0;
  bool chat = false;
  bool parse_special = false;
  std::string choices = "compressed";
  std::string question = "before";
  size_t shots = 0;
  bool bos = false;
  std::string kv_type = "f16";
  std::string linear = "f32";
  std::string attention = "f32";
  std::string sparse = "dense";
  std::string shard = "1/1";
  bool allow_code_execution = false;
  std::string sandbox = "full";
  size_t draws = 1;
  float temperature = 0;
  int threads = 0;
};

/// One cell for the full cache, then every method at every budget.
std::vector<eval::Cell> grid(const EvalFlags& flags) {
  if (flags.budgets != EvalFlags{}.budgets) require_use_for_budget(flags.methods);
  std::vector<Budget> budgets;
  for (const std::string& text : flags.budgets) budgets.push_back(flags.chosen.parse(text));
  if (std::ranges::none_of(budgets, [](const Budget& b) { return b.tolerance > 0; })) {
    flags.chosen.refuse();
  }
  std::vector<eval::Cell> cells;
  if (!flags.no_full) {
    cells.push_back(
        {.name = "full", .method = "full", .budget = {}, .options = default_options("full")});
  }
  for (const std::string& method : flags.methods) {
    const CompressionOptions options = parse_method(method);
    if (options.method == "full") {
      if (!flags.no_full) continue;  // it is there already
      throw Error(ErrorCode::kInvalidArgument, "--method full contradicts --no-full");
    }
    for (const Budget& budget : budgets) {
      eval::Cell cell{.name = fmt::format("{}@{}", method, budget.text()),
                      .method = method,
                      .budget = budget,
                      .options = options};
      if (budget.share == 0) set_budget(cell.options, budget, 0);
      validate(cell.options);
      cells.push_back(std::move(cell));
    }
  }
  if (cells.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "nothing to run: give a --method or drop --no-full");
  }
  if (flags.choices == "joint" && (cells.size() > 1 || flags.no_full)) {
    throw Error(ErrorCode::kInvalidArgument,
                "--choices joint reads no compressed cache, so all methods would score the same; "
                "use it with --method full");
  }
  return cells;
}

void set_shard(std::string_view text, eval::RunOptions& options) {
  const size_t slash = std::min(text.find('/'), text.size());
  size_t part = 0;
  if (parse_number(text.substr(0, slash), part) &&
      parse_number(text.substr(std::min(slash + 1, text.size())), options.shards) && part >= 1 &&
      part <= options.shards) {
    options.shard = part - 1;
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("--shard is \"{}\"; expected i/n, for instance 2/3 for the second of "
                          "three processes",
                          text));
}

/// "name   what it is", a line each.
std::string name_line(std::string_view name, std::string_view what) {
  return fmt::format("  {:<24} {}\n", name, what);
}

std::string recipe_list() {
  std::string text = "\nRecipes, ready runs (restkv eval --recipe NAME):\n";
  for (const eval::Recipe& recipe : eval::recipes()) text += name_line(recipe.name, recipe.title);
  return text;
}

/// "16 tasks, 2 without their files"
std::string count_of(const std::vector<eval::TaskInfo>& tasks, const std::string& data) {
  const auto missing = std::ranges::count_if(tasks, [&](const eval::TaskInfo& task) {
    return !task.file.empty() && eval::state_of(task, data) != "found";
  });
  std::string text = fmt::format("{} task{}", tasks.size(), tasks.size() == 1 ? "" : "s");
  if (!data.empty() && missing > 0) text += fmt::format(", {} without their files", missing);
  return text;
}

std::string suite_list(const std::string& data) {
  std::string text = "Suites (restkv eval SUITE; --list SUITE shows its tasks and files):\n";
  for (const eval::Suite& suite : eval::suites()) {
    text +=
        name_line(suite.name, fmt::format("{} ({})", suite.summary, count_of(suite.tasks(), data)));
  }
  return text + recipe_list();
}

/// Suites without their files leave tasks out, or make texts of their own.
void check_data(const EvalFlags& flags, bool takes_file) {
  if (flags.data.empty()) return;
  std::error_code error;
  const fs::file_status status = fs::status(flags.data, error);
  if (!fs::exists(status)) {
    throw Error(ErrorCode::kInput,
                fmt::format("--data {}: {}", flags.data,
                            error ? error.message() : "No such file or directory"));
  }
  if (takes_file || fs::is_directory(status)) return;
  throw Error(
      ErrorCode::kInput,
      fmt::format("--data {}: is no folder; this suite finds its files in one", flags.data));
}

int list(const EvalFlags& flags) {
  check_data(flags, true);
  if (flags.suite.empty()) {
    print_page(suite_list(flags.data));
    return kSuccess;
  }
  const eval::Suite& suite = eval::find_suite(flags.suite);
  std::string text = fmt::format("{}: {}\n", suite.name, suite.summary);
  std::string source;  // said once where neighbours share it
  for (const eval::TaskInfo& task : suite.tasks()) {
    const std::string_view state = eval::state_of(task, flags.data);
    text += fmt::format("  {:<24} {:<18} {:<22} {:<9} {}\n", task.name, task.category, task.metric,
                        state, task.file);
    if (task.source.empty() || task.file.empty() || state == "found") continue;
    if (task.source != source) text += fmt::format("  {:<24} from {}\n", "", task.source);
    source = task.source;
  }
  print(text);
  return kSuccess;
}

void refuse_ignored_options(const EvalFlags& flags, const eval::Suite& suite) {
  struct Option {
    const char* name;
    bool given;
    bool read;
    const char* lack;
  };
  const char* const no_choices = "has no multiple choice";
  const char* const no_message = "has texts that models go on with, whole, not messages";
  const char* const no_draws = "asks for one text, the most likely one";
  for (const Option& option :
       {Option{"--choices", flags.choices != "compressed", suite.multiple_choice, no_choices},
        {"--shots", flags.shots > 0, suite.multiple_choice, no_choices},
        {"--bos", flags.bos, suite.multiple_choice, no_choices},
        {"--question", flags.question != "before", suite.has_contexts,
         "does not say where a context ends and its question begins"},
        {"--allow-code-execution", flags.allow_code_execution, suite.runs_code, "runs no code"},
        {"--lengths", !flags.lengths.empty(), suite.has_lengths,
         "has prompts as long as its data has them"},
        {"--samples", flags.draws > 1, suite.draws_texts, no_draws},
        {"--temperature", flags.temperature > 0, suite.draws_texts, no_draws},
        {"--chat", flags.chat, !suite.multiple_choice && !suite.scores_tokens, no_message},
        {"--max-prompt", flags.max_prompt > 0, !suite.multiple_choice && !suite.scores_tokens,
         no_message},
        {"--seed", flags.seed != EvalFlags{}.seed,
         suite.draws_samples || (suite.multiple_choice && flags.shots > 0),
         "takes its samples as they are"}}) {
    if (!option.given || option.read) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no effect on the suite {}, which {}; leave it out", option.name,
                            suite.name, option.lack));
  }
}

/// Prompts of a wanted length that lose their middle are not as long as their row of the report
/// says.
void check_lengths(const EvalFlags& flags, const eval::PromptOptions& prompt) {
  for (const size_t length : flags.lengths) {
    if (length > prompt.context) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--lengths {} is beyond the model's context of {} tokens; leave it "
                              "out or use a model that holds as much",
                              length, prompt.context));
    }
    if (prompt.max_prompt > 0 && length > prompt.max_prompt) {
      notice(fmt::format(
          "prompts of {} tokens are cut to {} ({})", length, prompt.max_prompt,
          flags.max_prompt > 0 ? "--max-prompt" : "the published limit for this model"));
    }
  }
}

/// What must be the same in all processes that share a run.
std::string identity_of(const Model& model, const eval::RunOptions& run, size_t samples) {
  std::string cells;
  for (const eval::Cell& cell : run.cells) cells += " " + cell.name;
  return fmt::format("restkv " RESTKV_VERSION " with model {:016x}, {} samples and{}",
                     model.config().fingerprint, samples, cells);
}

int evaluate(const EvalFlags& flags, const std::optional<eval::Recipe>& recipe) {
  for (const auto& [flag, value] :
       {std::pair("SUITE", flags.suite), {"--model", flags.model}, {"--output", flags.output}}) {
    if (value.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is missing\nrestkv eval --help shows what is expected.", flag));
    }
  }
  require_model(flags.model);
  refuse_standard_output("--output", flags.output);
  const eval::Suite& suite = eval::find_suite(flags.suite);
  refuse_ignored_options(flags, suite);
  check_data(flags, suite.takes_file);
  Communicator& all = cluster();
  const bool speaks = all.rank() == 0;
  if (speaks) require_writable_folder(flags.output);
  use_threads(flags.threads, all.neighbours());
  eval::RunOptions run;
  run.folder = flags.output;
  run.others = &all;
  run.cells = grid(flags);
  set_shard(flags.shard, run);
  run.kv_type = find_kv_type(flags.kv_type);
  run.sparse = parse_sparse(flags.sparse);
  validate(SamplingOptions{.temperature = flags.temperature});
  run.choices = eval::find_choice_mode(flags.choices);
  if (flags.question == "after") run.question = eval::QuestionTime::kAfter;

  ModelOptions model_options;
  model_options.linear = find_linear_precision(flags.linear);
  model_options.attention = find_attention_precision(flags.attention);
  const std::string path = model_file(flags.model);
  const Model model(path, model_options);
  for (const eval::Cell& cell : run.cells) validate(cell.options, model.config().cache_shape());
  const Tokenizer tokenizer(path);
  if (flags.chat && !tokenizer.has_chat_template()) {
    throw Error(ErrorCode::kInvalidArgument, "--chat: this model has no chat template");
  }
  if (flags.parse_special && !flags.chat) {
    throw Error(ErrorCode::kInvalidArgument,
                "--parse-special has no effect without --chat: prompts without a chat template may "
                "hold one, so that control tokens in them are always parsed");
  }
  run.prompt.chat = flags.chat;
  run.prompt.parse_special = flags.parse_special;
  run.prompt.max_prompt = flags.max_prompt == 0 && flags.profile == "restkv"
                              ? eval::published_prompt_limit(flags.model)
                              : flags.max_prompt;
  run.prompt.context = model.config().context_length;
  run.prompt.choices_with_bos = flags.bos;
  if (speaks) check_lengths(flags, run.prompt);

  eval::SuiteOptions options;
  options.tokenizer = &tokenizer;
  options.data = flags.data;
  options.tasks = flags.tasks;
  options.lengths = flags.lengths;
  options.limit = flags.limit;
  options.seed = flags.seed;
  options.profile = flags.profile;
  options.context = model.config().context_length;
  options.reserved = eval::tokens_around(tokenizer, run.prompt);
  options.allow_code_execution = flags.allow_code_execution;
  options.reduced_sandbox = flags.sandbox == "reduced";
  options.shots = flags.shots;
  options.draws = flags.draws;
  options.temperature = flags.temperature;
  std::vector<eval::SkippedLine> skipped;
  const auto tasks = suite.open(options, skipped);
  for (const eval::SkippedLine& line : skipped) {
    if (speaks)
      notice(fmt::format("{}:{}: left out: {}", line.file.string(), line.line, line.reason));
  }

  std::vector<eval::TaskInfo> missing;
  if (flags.tasks.empty()) missing = eval::without_files(suite, tasks, flags.data);
  if (tasks.empty()) {
    throw Error(ErrorCode::kInput, eval::describe_missing_files(suite, missing));
  }
  if (!missing.empty() && speaks) {
    notice(eval::describe_left_out(suite, missing));
  }
  size_t samples = 0;
  for (const auto& task : tasks) samples += task->size();
  if (run.shard >= samples) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("--shard {} holds no sample, since there are {} in all; use fewer shards",
                    flags.shard, samples));
  }

  meet(all, identity_of(model, run, samples), std::nullopt);
  if (!speaks) {
    catch_interrupts();
    eval::RunHooks hooks;
    hooks.interrupted = interrupted;
    hooks.peak_bytes = peak_resident_bytes;
    run_samples(tasks, model, tokenizer, run, hooks);
    return kSuccess;
  }
  Json settings = run_settings(suite, options, tasks, skipped, model, run, RESTKV_VERSION);
  if (recipe) settings["recipe"] = about(*recipe);
  for (const eval::TaskInfo& info : missing) settings["left_out"].push_back(info.name);
  eval::open_run(
      run.folder, settings,
      {{"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
       {"machine", machine_description()},
       // A link's target: files of models are often linked under a short name.
       {"model", fs::canonical(path).filename().string()}});
  catch_interrupts();
  Progress progress(stderr, fmt::format("eval {}", flags.suite));
  const eval::RunHooks hooks{
      .progress =
          [&](double fraction, const std::string& detail) {
            progress.update(fraction,
                            fmt::format("{}, memory {}", detail,
                                        human_bytes(static_cast<double>(peak_resident_bytes()))));
          },
      .interrupted = interrupted,
      .uninterruptible = [](bool begins) { begins ? release_interrupts() : catch_interrupts(); },
      .peak_bytes = peak_resident_bytes};
  eval::RunCount count;
  try {
    count = run_samples(tasks, model, tokenizer, run, hooks);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted,
                fmt::format("interrupted; what is finished is in {}, and the same command goes on "
                            "from there",
                            flags.output));
  }
  progress.finish();
  if (count.unchecked > 0) {
    notice(
        fmt::format("{} samples from before have no checksum, as earlier versions wrote them: "
                    "nobody can tell whether they are as they were",
                    count.unchecked));
  }
  std::set<Budget> budgets;
  for (const eval::Cell& cell : run.cells) budgets.insert(cell.budget);
  const std::string unused = eval::describe_unused_budgets(budgets, count.longest_prompt);
  if (!unused.empty()) notice(unused);
  const std::vector<fs::path> folders{run.folder};
  for (const eval::Run& done : eval::load_runs(folders)) {
    print(eval::terminal_table(eval::report_of(done)) + "\n");
  }
  print(fmt::format(
      "{} sample{} in {}{}{}\n", count.samples, count.samples == 1 ? "" : "s", flags.output,
      count.before > 0 ? fmt::format(", {} of them from before", count.before) : "",
      count.failed > 0 ? fmt::format(", {} left out (see \"error\" in its lines)", count.failed)
                       : ""));
  print(fmt::format("Pictures and all answers: restkv report {}\n", flags.output));
  return count.failed > 0 ? kFailure : kSuccess;
}

/// Takes the values of the recipe, if one is asked for, where the command line gives none.
int run_eval(EvalFlags& flags, ArgumentParser& parser) {
  if (flags.list && cluster().rank() > 0) return kSuccess;  // one of them is enough
  if (flags.list) {
    for (const Option* option : parser.options()) {
      const std::string name = option->name();
      const bool read = name == "--list" || name == "--recipe" ||
                        (flags.recipe.empty() && (name == "--data" || name == "suite"));
      if (!option->given() || read) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no effect with --list; leave it out", name));
    }
  }
  if (flags.recipe.empty()) return flags.list ? list(flags) : evaluate(flags, std::nullopt);
  const eval::Recipe recipe = eval::find_recipe(flags.recipe);
  if (flags.list) {
    print(eval::to_json(recipe).dump(2) + "\n");
    return kSuccess;
  }
  apply_recipe(recipe, parser, kAsked);
  try {
    return evaluate(flags, recipe);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
    throw Error(e.code(), fmt::format("recipe {}: {}", recipe.name, e.what()));
  }
}

}  // namespace

std::function<int()> declare_eval(ArgumentParser& parser) {
  auto flags = std::make_shared<EvalFlags>();
  parser.add_flag("--list", flags->list,
                  "show suites and recipes; with a suite: its tasks and the files they need; with "
                  "--recipe: what it holds");
  parser.add("--recipe", flags->recipe,
             "a ready run by name, or your own from a file; options given here win over its "
             "own",
             "NAME|FILE.json");
  declare_model(parser, flags->model);
  parser.add("-o,--output", flags->output,
             "folder of the run; started again, a run goes on where it ended", "DIR");
  parser.add("--data", flags->data, "folder (or file) of the benchmark's data", "DIR");
  parser.add("--shard", flags->shard, "i/n: run every n-th sample only, from the i-th on", "I/N");
  const Option& code = parser.add_flag("--allow-code-execution", flags->allow_code_execution,
                                       "let suites run code that the model wrote, in a sandbox");
  parser
      .add("--sandbox", flags->sandbox,
           "full, or reduced: run such code even where this machine does not permit all of "
           "the sandbox's layers",
           "MODE")
      .choices({"full", "reduced"})
      .needs(code);
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");

  parser.begin_group(kAsked);
  parser.add("suite", flags->suite, "benchmark suite; --list names them", "SUITE");
  parser.add("--method", flags->methods, "methods with options, for instance restkv:kernel=21",
             "NAME,...");
  parser.add("--budget", flags->budgets,
             "tokens kept per layer and KV head, shares of what is compressed, or what layers "
             "choose within a tolerance",
             "N|P%|auto[:E],...");
  flags->chosen.declare(parser);
  parser
      .add("--question", flags->question,
           "after: compress the context before the question is seen, then read the question",
           "before|after")
      .choices({"before", "after"});
  parser.add_flag("--no-full", flags->no_full,
                  "leave out the full cache, which others compare with");
  parser.add("--tasks", flags->tasks, "only these tasks", "NAME,...");
  parser.add("--lengths", flags->lengths, "prompt lengths in tokens, where a suite has a choice",
             "N,...");
  parser.add("--limit", flags->limit, "samples per task; 0: all", "N");
  parser.add("--seed", flags->seed, "of generated samples and drawn texts", "N");
  parser
      .add("--profile", flags->profile, "official or restkv (the settings of ReST-KV's code)",
           "NAME")
      .choices({"official", "restkv"});
  parser.add("--max-prompt", flags->max_prompt,
             "longer prompts lose their middle; 0: the context decides (and, with --profile "
             "restkv, the published limits)",
             "N");
  parser.add_flag("--chat,!--no-chat", flags->chat, "put the model's chat template around prompts");
  parser.add_flag("--parse-special", flags->parse_special,
                  "with --chat: control tokens in prompts are control tokens, not text");
  parser
      .add("--choices", flags->choices,
           "score choices on the compressed cache, on it with the context's last token held "
           "back until then, or joint with their context",
           "MODE")
      .choices({"compressed", "held-back", "joint"});
  parser.add("--shots", flags->shots, "solved examples before each question of multiple choice",
             "N");
  parser.add_flag("--bos", flags->bos, "put begin-of-text before the context of choices");
  parser.add("--linear", flags->linear, kLinearHelp, "f32|bf16|int8|auto");
  parser.add("--attention", flags->attention, kAttentionHelp, "f32|bf16|int8|auto");
  parser.add("--kv-type", flags->kv_type, "how keys and values are kept: f16, f32, q8 or q4",
             "f16|f32|q8|q4");
  parser.add("--sparse", flags->sparse,
             "leave out tiles of attention while prompts are read (restkv methods lists the "
             "patterns)",
             "PATTERN[:option=value...]");
  parser.add("--samples", flags->draws, "texts per problem, for pass@k", "N").range(1, 1000);
  parser.add("--temperature", flags->temperature, "0: always the most likely token", "T");
  parser.set_footer(
      "Examples:\n"
      "  restkv eval --list longbench --data benchmarks\n"
      "  restkv eval --recipe indicator -m model.gguf -o runs/indicator\n"
      "  restkv eval ruler -m model.gguf --lengths 4096 --limit 20 -o runs/ruler\n"
      "  restkv eval longbench -m model.gguf --data benchmarks --method snapkv,restkv:kernel=21 "
      "--budget 128,512 -o runs/longbench\n"
      "  mpirun -n 8 restkv eval ruler -m model.gguf -o runs/ruler");
  return [flags, &parser] { return run_eval(*flags, parser); };
}

}  // namespace restkv::cli
