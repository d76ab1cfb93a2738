#include "eval/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/caught_error.h"
#include "base/find_named.h"
#include "base/sha256.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "engine/kept_tokens.h"
#include "eval/answer.h"
#include "eval/multi_turn.h"
#include "eval/results.h"
#include "model/split_name.h"
#include "restkv/compression_options.h"
#include "restkv/conversation.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

/// Share of the prefill in the time of a sample, for the progress bar.
constexpr double kPrefillShare = 0.7;

constexpr std::array<std::pair<std::string_view, ChoiceMode>, 3> kChoiceModes = {
    std::pair{"compressed", ChoiceMode::kCompressed},
    {"held-back", ChoiceMode::kHeldBack},
    {"joint", ChoiceMode::kJoint}};

std::string results_name(const RunOptions& options) {
  if (options.shards == 1) return "results.jsonl";
  return fmt::format("results-{}-of-{}.jsonl", options.shard + 1, options.shards);
}

/// A file's path relative to the data folder.
std::string name_below(const fs::path& file, const fs::path& folder) {
  const fs::path relative = file.lexically_relative(folder);
  const bool below = !relative.empty() && relative != "." && *relative.begin() != "..";
  return below ? relative.generic_string() : file.filename().string();
}

Json task_settings(const Task& task, const SuiteOptions& options) {
  Json files = Json::array();
  for (const fs::path& file : task.files()) {
    files.push_back({{"file", name_below(file, options.data)}, {"sha256", sha256_of_file(file)}});
  }
  Json json = {{"name", task.name()},
               {"category", task.category()},
               {"samples", task.size()},
               {"published_samples", task.published_size()},
               {"subset", options.limit > 0 || task.size() < task.published_size()},
               {"lower_is_better", task.lower_is_better()},
               {"files", std::move(files)}};
  if (const auto notes = task.notes(); !notes.empty()) json["notes"] = notes;
  return json;
}

Json cell_settings(const Cell& cell) {
  Json parameters = Json::object();
  const Method& method = find_method(cell.options.method);
  for (const std::string_view name : method.options) {
    parameters[name] = find_compression_option(name).get(cell.options);
  }
  return {{"name", cell.name},
          {"method", cell.method},
          {"budget", budget_json(cell.budget)},
          {"parameters", std::move(parameters)}};
}

/// The samples of one process, in the order of the run.
struct Item {
  const Task* task;
  size_t index;
};

/// The end of a prompt, for people who look at its answers.
std::string prompt_end(const Tokenizer& tokenizer, const Sample& sample) {
  constexpr size_t kBytes = 600;
  constexpr size_t kTokens = 150;
  std::string text;
  if (!sample.turns.empty()) {
    for (const Turn& turn : sample.turns) text += turn.prompt + '\n';
  } else if (!sample.tokens.empty()) {
    const auto tokens = std::span(sample.tokens);
    text = tokenizer.decode(tokens.last(std::min(tokens.size(), kTokens)), true);
  } else {
    text = sample.prompt + sample.answer_prefix;
  }
  size_t begin = text.size() - std::min(text.size(), kBytes);
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) ++begin;
  return replace_invalid_utf8(std::string_view(text).substr(begin));
}

class Runner {
 public:
  Runner(const Model& model, const Tokenizer& tokenizer, const RunOptions& options,
         const RunHooks& hooks)
      : model_(model),
        tokenizer_(tokenizer),
        options_(options),
        all_(options.others != nullptr ? *options.others : single_process()),
        hooks_(hooks),
        engine_(model),
        answerer_(tokenizer, engine_, [this] { return interrupted(); }) {
    engine_.set_sparse(options.sparse);
  }

  /// What a process does that rank 0 hands samples to.
  void help(std::span<const std::unique_ptr<Task>> tasks) {
    all_.send(0, "");
    while (true) {
      const std::string bytes = all_.wait().bytes;
      if (bytes.empty()) return;
      ByteReader in("a sample of rank 0", bytes);
      const auto task = in.number<uint64_t>();
      all_.send(0, to_line(answered({tasks[task].get(), in.number<uint64_t>()})));
    }
  }

  RunCount run(std::span<const std::unique_ptr<Task>> tasks) {
    // Opened first, so that two processes with the same shard do not both begin.
    file_.emplace(options_.folder / results_name(options_));
    tasks_ = tasks;
    find_what_is_left();
    while (next_ < left_.size()) {
      const Item item = left_[next_++];
      take(answered(item));
    }
    while (dismissed_ + 1 < all_.size()) {  // the others answer the last ones
      if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return count_;
  }

 private:
  void find_what_is_left() {
    std::map<std::pair<std::string, size_t>, bool> done;  // (task, index): did it fail?
    for (const SampleResult& result : read_results(options_.folder)) {
      require_own(result, tasks_);
      done.emplace(std::pair(result.task, result.index), !result.error.empty());
      count_.longest_prompt = std::max(count_.longest_prompt, result.prompt_tokens);
      if (!result.checked) ++count_.unchecked;
    }
    size_t number = 0;
    for (const auto& task : tasks_) {
      for (size_t i = 0; i < task->size(); ++i, ++number) {
        if (number % options_.shards != options_.shard) continue;
        ++count_.samples;
        const auto before = done.find(std::pair(task->name(), i));
        if (before == done.end()) {
          left_.push_back({task.get(), i});
        } else if (before->second) {
          ++count_.failed;
        }
      }
    }
    count_.before = count_.samples - left_.size();
    samples_ = left_.size();
  }

  void take(const SampleResult& result) {
    file_->append(result);
    if (!result.error.empty()) ++count_.failed;
    count_.longest_prompt = std::max(count_.longest_prompt, result.prompt_tokens);
    ++finished_;
  }

  /// Takes the result that another process sends, if it has one yet, and gives it the next sample.
  void hear(const Message& message) {
    if (!message.bytes.empty()) {
      try {
        take(from_line(message.bytes));
      } catch (const Error& e) {  // not one of the sample that is answered here meanwhile
        throw Error(ErrorCode::kIo,
                    fmt::format("a result of rank {} cannot be kept: {}", message.from, e.what()));
      }
    }
    std::string sample;
    if (next_ < left_.size()) {
      const Item& item = left_[next_++];
      const auto task = std::ranges::find(tasks_, item.task, &std::unique_ptr<Task>::get);
      ByteWriter out([&](std::string_view part) { sample.append(part); });
      out.number<uint64_t>(static_cast<uint64_t>(task - tasks_.begin()));
      out.number<uint64_t>(item.index);
    } else {
      ++dismissed_;
    }
    all_.send(message.from, sample);
  }

  /// Asked often while a sample is answered: rank 0 serves the others meanwhile.
  bool interrupted() {
    while (file_) {
      const std::optional<Message> message = all_.receive();
      if (!message) break;
      hear(*message);
    }
    return hooks_.interrupted && hooks_.interrupted();
  }

  /// Shows that `part` of the current sample is done.
  void show(double part, const SampleResult& result) const {
    if (!hooks_.progress) return;
    hooks_.progress((static_cast<double>(finished_) + part) / static_cast<double>(samples_),
                    fmt::format("sample {}/{}, {}", finished_ + 1, samples_, result.task));
  }

  /// Refuses results of another or an edited run, which would count as finished work.
  void require_own(const SampleResult& result, std::span<const std::unique_ptr<Task>> tasks) const {
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: {}; remove the line and give the same command "
                              "again",
                              result.place, what));
    };
    const auto task =
        std::ranges::find(tasks, result.task, [](const auto& each) { return each->name(); });
    if (task == tasks.end() || result.index >= (*task)->size()) {
      refuse(
          fmt::format("sample {} of a task '{}' is none of this run", result.index, result.task));
    }
    if (!result.error.empty() ||
        std::ranges::equal(result.cells, options_.cells, {}, &CellResult::cell, &Cell::name)) {
      return;
    }
    refuse("the methods of its cells are not those of this run");
  }

  SampleResult answered(const Item& item) {
    const Stopwatch watch;
    SampleResult result;
    result.task = item.task->name();
    result.index = item.index;
    show(0, result);
    try {
      const Sample sample = item.task->sample(item.index);
      result.id = sample.id;
      result.length = sample.length;
      result.depth = sample.depth;
      result.reference = sample.reference;
      result.prompt_end = prompt_end(tokenizer_, sample);
      if (sample.turns.empty()) {
        answer_cells(*item.task, sample, result);
      } else {
        converse_with_cells(*item.task, sample, result);
      }
    } catch (const Error& e) {
      const bool of_this_sample = e.code() != ErrorCode::kInterrupted && e.code() != ErrorCode::kIo;
      if (!of_this_sample) throw;
      result.error = e.what();
    } catch (const std::exception&) {
      result.error = caught_error().what();
    }
    if (!result.error.empty()) result.cells.clear();
    result.seconds = watch.seconds();
    if (hooks_.peak_bytes) result.peak_bytes = hooks_.peak_bytes();
    return result;
  }

  /// Runs `work`, which encodes a text of at least this size.
  void encode(size_t bytes, const std::function<void()>& work) {
    constexpr size_t kLong = size_t{1} << 20U;  // takes about a second
    if (bytes < kLong || !hooks_.uninterruptible) return work();
    struct Scope {
      explicit Scope(const RunHooks& of) : hooks(of) { hooks.uninterruptible(true); }
      ~Scope() { hooks.uninterruptible(false); }
      const RunHooks& hooks;
    };
    const Scope scope(hooks_);
    if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
    work();
  }

  /// What is said around a prompt that a method lets the model repeat; none if no method does.
  [[nodiscard]] std::optional<RepeatPrompt> repeat_for(const Sample& sample) const {
    const auto repeats = [](const Cell& cell) { return repeat_chunk(cell.options) > 0; };
    if (std::ranges::none_of(options_.cells, repeats)) return std::nullopt;
    const bool chat = options_.prompt.chat && !sample.always_raw;
    // Token ids may have a template around them.
    if (chat || !sample.tokens.empty()) {
      RepeatPrompt repeat = repeat_prompt(tokenizer_);
      if (sample.context_begin > 0) {
        repeat.prefix.assign(sample.tokens.begin(),
                             sample.tokens.begin() + static_cast<ptrdiff_t>(sample.context_begin));
      }
      return repeat;
    }
    return Conversation::plain_text(tokenizer_, false).repeat_prompt();
  }

  /// Refuses samples that cannot be compressed before their question is seen.
  static void require_question(const Sample& sample, const PromptTokens& prompt) {
    const char* reason = nullptr;
    if (sample.mode == SampleMode::kChoose) {
      reason =
          "its choices have no question of their own; holding the last token back is the nearest";
    } else if (sample.mode == SampleMode::kContinue && sample.context_end == 0) {
      reason = "a text that is continued has no question";
    } else if (sample.context_end == 0) {
      reason =
          "the sample does not say where its question begins (the field 'context_end' of your "
          "own prompts)";
    } else if (prompt.context == 0 || prompt.context >= prompt.tokens.size()) {
      reason =
          "the prompt was cut, and nothing is left of its context or of its question; use "
          "shorter prompts or a higher limit of them";
    }
    if (reason != nullptr) {
      throw Error(ErrorCode::kInput, fmt::format("the question cannot come later: {}", reason));
    }
  }

  void answer_cells(const Task& task, const Sample& sample, SampleResult& result) {
    std::optional<ChoiceSet> choices;
    PromptTokens prompt;
    encode(sample.prompt.size(), [&] {
      if (sample.mode == SampleMode::kChoose) {
        choices = choice_set(tokenizer_, sample, options_.prompt);
        if (options_.choices == ChoiceMode::kHeldBack) hold_back(*choices);
        prompt.tokens = choices->context;
      } else {
        prompt = prompt_tokens(tokenizer_, sample, options_.prompt);
      }
    });
    result.prompt_tokens = prompt.tokens.size();
    result.cut_from = prompt.cut_from;
    std::span<const int32_t> compressed(prompt.tokens);
    std::span<const int32_t> question;
    if (options_.question == QuestionTime::kAfter) {
      require_question(sample, prompt);
      question = compressed.subspan(prompt.context);
      compressed = compressed.first(prompt.context);
    }

    if (choices && options_.choices == ChoiceMode::kJoint) {
      for (const Cell& cell : options_.cells) {
        add_cell(task, sample, cell, answerer_.choose_jointly(*choices), {}, result);
      }
      return;
    }
    // One prefill serves all cells; each layer is compressed for all of them.
    std::vector<CacheRequest> requests(options_.cells.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].options = options_.cells[i].options_for(compressed.size());
      requests[i].kv_type = options_.kv_type;
    }
    const Stopwatch watch;
    std::vector<std::vector<float>> logits{engine_.prefill(
        compressed, requests,
        [&](double part) {
          show(kPrefillShare * part, result);
          return !interrupted();
        },
        repeat_for(sample))};
    result.prefill_seconds = watch.seconds();
    for (const CacheRequest& request : requests) {
      result.prefill_seconds -= request.compress_seconds;
    }
    std::vector<KvCache> caches;
    std::vector<CellCost> costs;
    for (CacheRequest& request : requests) {
      costs.push_back({.kv_bytes = request.cache.kept_bytes(),
                       .kept = tokens_held(request.cache, model_.config()),
                       .compress_seconds = request.compress_seconds});
      caches.push_back(std::move(request.cache));
    }
    if (!question.empty()) {
      logits.clear();
      for (KvCache& cache : caches) {
        logits.push_back(engine_.extend(question, cache, [&](double) { return !interrupted(); }));
      }
    }
    const auto answering = [&](double part) {
      show(kPrefillShare + (1 - kPrefillShare) * part, result);
    };
    std::vector<TimedAnswer> answers = choices
                                           ? answerer_.choose(*choices, logits, caches, answering)
                                       : sample.mode == SampleMode::kContinue
                                           ? answerer_.follow(sample, logits, caches, answering)
                                           : answerer_.generate(sample, logits, caches, answering);
    for (size_t i = 0; i < answers.size(); ++i) {
      add_cell(task, sample, options_.cells[i], std::move(answers[i]), costs[i], result);
    }
    show(1, result);
  }

  /// Every cell has its own conversation, because answers depend on the kept tokens.
  void converse_with_cells(const Task& task, const Sample& sample, SampleResult& result) {
    const auto cells = static_cast<double>(options_.cells.size());
    PromptOptions prompt = options_.prompt;
    prompt.chat = prompt.chat && !sample.always_raw;
    for (size_t i = 0; i < options_.cells.size(); ++i) {
      const Cell& cell = options_.cells[i];
      if (cell.budget.share > 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("the budget is {}, but a conversation has no length to take a "
                                "share of; give a number of tokens",
                                cell.budget.text()));
      }
      MultiTurnResult turns = converse(model_, tokenizer_, answerer_, sample,
                                       {.compression = cell.options,
                                        .kv_type = options_.kv_type,
                                        .repeat = repeat_for(sample),
                                        .sparse = options_.sparse},
                                       prompt, [&](double part) {
                                         show((static_cast<double>(i) + part) / cells, result);
                                         return !interrupted();
                                       });
      result.prompt_tokens = turns.read_tokens;
      result.prefill_seconds += turns.prefill_seconds;
      add_cell(task, sample, cell, std::move(turns.timed),
               {.kv_bytes = turns.kv_bytes,
                .kept = turns.kept,
                .compress_seconds = turns.compress_seconds},
               result);
    }
  }

  struct CellCost {
    size_t kv_bytes = 0;
    double kept = 0;
    double compress_seconds = 0;
  };

  static void add_cell(const Task& task, const Sample& sample, const Cell& cell, TimedAnswer timed,
                       const CellCost& cost, SampleResult& result) {
    CellResult& to = result.cells.emplace_back();
    to.cell = cell.name;
    to.scores = task.score(sample, timed.answer);
    to.answer = std::move(timed.answer);
    to.kv_bytes = cost.kv_bytes;
    to.kept = cost.kept;
    to.compress_seconds = cost.compress_seconds;
    to.decode_seconds = timed.decode_seconds;
    to.decode_steps = timed.decode_steps;
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  const RunOptions& options_;
  Communicator& all_;
  const RunHooks& hooks_;
  Engine engine_;
  Answerer answerer_;
  // Of rank 0, or of a process that is alone:
  std::optional<ResultsFile> file_;
  RunCount count_;
  std::span<const std::unique_ptr<Task>> tasks_;
  std::vector<Item> left_;  // samples without a result at the start
  size_t next_ = 0;         // the first of them that nobody answers yet
  size_t dismissed_ = 0;    // other processes that have nothing to do any more
  size_t samples_ = 0;      // unfinished ones at the start of this process
  size_t finished_ = 0;     // of these
};

}  // namespace

CompressionOptions Cell::options_for(size_t n) const {
  CompressionOptions result = options;
  if (budget.share > 0) result.budget = budget.of(n);
  return result;
}

std::string_view choice_mode_name(ChoiceMode mode) {
  return std::ranges::find(kChoiceModes, mode, [](const auto& m) { return m.second; })->first;
}

ChoiceMode find_choice_mode(std::string_view name) {
  return find_named(
             kChoiceModes, [](const auto& mode) { return mode.first; }, name,
             "choices cannot be scored '{}'; known: {}")
      .second;
}

Json run_settings(const Suite& suite, const SuiteOptions& options,
                  std::span<const std::unique_ptr<Task>> tasks,
                  std::span<const SkippedLine> skipped, const Model& model, const RunOptions& run,
                  std::string_view version) {
  Json task_list = Json::array();
  for (const auto& task : tasks) task_list.push_back(task_settings(*task, options));
  Json cells = Json::array();
  for (const Cell& cell : run.cells) cells.push_back(cell_settings(cell));
  Json skipped_lines = Json::array();
  for (const SkippedLine& line : skipped) {
    skipped_lines.push_back({{"file", name_below(line.file, options.data)},
                             {"line", line.line},
                             {"reason", line.reason}});
  }
  Json settings = {
      {"version", version},
      {"benchmark", suite.name},
      {"profile", options.profile.empty() ? "default" : options.profile},
      {"remark", suite.remark},
      {"model",
       {{"file", fs::path(model.path()).filename().string()},
        {"name", model.config().name},
        {"architecture", model.config().architecture},
        {"weights", model.config().weight_types},
        {"context", model.config().context_length},
        {"sha256", sha256_of_files(model_files(model.path()))}}},
      {"limit", options.limit},
      {"lengths", options.lengths},
      {"seed", options.seed},
      {"max_prompt", run.prompt.max_prompt},
      {"chat_template", run.prompt.chat},
      {"parse_special", run.prompt.parse_special},
      {"decoding", options.temperature > 0
                       ? fmt::format("temperature {}, {} texts", options.temperature, options.draws)
                       : std::string("greedy")},
      {"choices", choice_mode_name(run.choices)},
      {"shots", options.shots},
      {"bos", run.prompt.choices_with_bos},
      {"kv_type", kv_type_name(run.kv_type)},
      {"linear", linear_precision_name(model.linear_precision())},
      {"attention", attention_precision_name(model.attention_precision())},
      {"sparse", describe_sparse(run.sparse)},
      {"cells", std::move(cells)},
      {"tasks", std::move(task_list)},
      {"skipped_lines", std::move(skipped_lines)}};
  // Left out otherwise, so that runs from before there was a choice can go on.
  if (run.question == QuestionTime::kAfter) settings["question"] = "after";
  return settings;
}

RunCount run_samples(std::span<const std::unique_ptr<Task>> tasks, const Model& model,
                     const Tokenizer& tokenizer, const RunOptions& options, const RunHooks& hooks) {
  for (const Cell& cell : options.cells) {  // checked before minutes of work
    validate(cell.options_for(model.config().context_length), model.config().cache_shape());
  }
  Runner runner(model, tokenizer, options, hooks);
  if (options.others == nullptr || options.others->rank() == 0) return runner.run(tasks);
  runner.help(tasks);
  return {};
}

}  // namespace restkv::eval
