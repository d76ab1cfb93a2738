#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/answer_file.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/compression_flags.h"
#include "cli/folder_files.h"
#include "cli/model_argument.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/prompt_sources.h"
#include "cli/question_file.h"
#include "cli/sampling_flags.h"
#include "cli/session_flags.h"
#include "cli/signals.h"
#include "cli/system_flags.h"
#include "cli/turn.h"
#include "engine/kept_tokens.h"
#include "engine/snapshot.h"
#include "generate/batch.h"
#include "generate/document_prompt.h"
#include "restkv/compression_options.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/generate.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

struct AskFlags {
  std::string model;
  std::vector<std::string> documents, asked;
  FolderFlags folders;
  std::string questions, output;
  SystemFlags system;
  size_t max_tokens = 256;
  size_t parallel = 8;
  int threads = 0;
  SamplingFlags sampling{SamplingOptions{.temperature = 0}};
  SessionFlags session{0, kMethodForLaterQuestions, BudgetForm::kAny};
};

/// What the run did, for the table at its end.
struct AskSummary {
  size_t document_tokens = 0;
  double held = 0;  ///< Of these, per KV head.
  double read_seconds = 0;
  size_t answered = 0, answer_tokens = 0, cut_off = 0;
  double answer_seconds = 0;
  size_t kv_bytes = 0;

  [[nodiscard]] std::string text() const {
    std::string line = fmt::format(
        "document: {} tokens, read in {:.1f} s, {:.0f} kept per KV head ({})\n", document_tokens,
        read_seconds, held, human_bytes(static_cast<double>(kv_bytes)));
    if (answered == 0) return line;
    return line +
           fmt::format("{} question{}: {:.1f} s, {:.2f} s each, {} tokens{}\n", answered,
                       answered == 1 ? "" : "s", answer_seconds,
                       answer_seconds / static_cast<double>(answered), answer_tokens,
                       cut_off > 0 ? fmt::format("; {} stopped at --max-tokens", cut_off) : "");
  }
};

/// Answers questions, several at a time, each behind a copy of the document's cache.
class Asker {
 public:
  using Store = std::function<void(const Question&, const GenerationResult&, double seconds)>;

  Asker(const AskFlags& flags, const Tokenizer& tokenizer, const SamplingOptions& sampling,
        const Session& document, const DocumentPrompt& prompt)
      : flags_(flags),
        tokenizer_(tokenizer),
        sampling_(sampling),
        document_(document),
        prompt_(prompt),
        batch_(
            [this](auto tokens, auto members) { return decode(tokens, members); },
            [this](size_t member, const Batch::Cost& cost) { ended_.emplace_back(member, cost); }) {
  }

  /// `store` gets every answer as soon as it is complete. Throws `Error` (kInterrupted) on Ctrl-C.
  void answer(std::span<const Question> questions, AskSummary& summary, const Store& store) {
    const Stopwatch watch;
    Progress progress(stderr, "answering");
    size_t begun = 0;
    while (begun < questions.size() || !batch_.empty()) {
      if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
      if (begun < questions.size() && batch_.size() < flags_.parallel) {
        begin(questions[begun], begun);
        ++begun;
      } else {
        batch_.step();
      }
      for (const auto& [member, cost] : std::exchange(ended_, {})) {
        const GenerationResult& result = asked_.at(member).text.result();
        store(questions[member], result, cost.seconds);
        ++summary.answered;
        summary.answer_tokens += result.tokens.size();
        if (result.finish_reason == FinishReason::kLength) ++summary.cut_off;
        asked_.erase(member);
      }
      summary.answer_seconds = watch.seconds();
      progress.update(static_cast<double>(summary.answered) / static_cast<double>(questions.size()),
                      fmt::format("{} of {}", summary.answered, questions.size()));
    }
    progress.finish();
  }

 private:
  struct Asked {
    Session session;
    Generation text;
  };

  void begin(const Question& question, size_t member) {
    const std::vector<int32_t> tokens = prompt_.question(question.text);
    GenerationOptions options;
    options.max_tokens = question.max_tokens.value_or(flags_.max_tokens);
    options.sampling = sampling_;
    Session session = document_.fork();
    // What the document keeps is decided: question and answer come on top of it.
    session.reserve(tokens.size() + options.max_tokens);
    session.append(tokens);
    const auto place =
        asked_.emplace(member, Asked{std::move(session), Generation(tokenizer_, options)}).first;
    batch_.join(member, place->second.text, place->second.session.logits());
  }

  Matrix<const float> decode(std::span<const int32_t> tokens, std::span<const size_t> members) {
    sessions_.clear();
    for (const size_t member : members) sessions_.push_back(&asked_.at(member).session);
    Session::append_together(sessions_, tokens);
    logits_.clear();
    for (const Session* session : sessions_) {
      logits_.insert(logits_.end(), session->logits().begin(), session->logits().end());
    }
    return {logits_.data(), tokens.size(), logits_.size() / tokens.size()};
  }

  const AskFlags& flags_;
  const Tokenizer& tokenizer_;
  const SamplingOptions& sampling_;
  const Session& document_;
  const DocumentPrompt& prompt_;
  std::map<size_t, Asked> asked_;
  std::vector<std::pair<size_t, Batch::Cost>> ended_;
  std::vector<Session*> sessions_;
  std::vector<float> logits_;
  Batch batch_;
};

std::vector<Question> questions_of(const AskFlags& flags) {
  std::vector<Question> questions;
  if (!flags.questions.empty()) questions = read_questions(flags.questions);
  for (const std::string& text : flags.asked) {
    questions.push_back({.id = fmt::format("q{}", questions.size() + 1), .text = text});
  }
  if (questions.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "no question: give --questions FILE, or -q TEXT once or several times");
  }
  return questions;
}

/// All that an answer depends on but its question.
std::string settings_of(const AskFlags& flags, const Model& model, const SessionOptions& session,
                        const SamplingOptions& sampling, std::string_view system,
                        std::string_view document) {
  const ModelOptions rope = flags.session.model();
  std::string text = fmt::format(
      "{:x} {} {} {} {} {} {} {} {} {} {} {} {} {}", model.config().fingerprint,
      linear_precision_name(model.linear_precision()),
      attention_precision_name(model.attention_precision()), rope.rope_scaling, rope.rope_factor,
      session.compression.method, session.compression.budget, kv_type_name(session.kv_type),
      describe_sparse(session.sparse), session.chunk, session.interval, session.decode_budget,
      session.compact_positions, flags.max_tokens);
  for (const std::string_view name : find_method(session.compression.method).options) {
    text += fmt::format(" {}={}", name, find_compression_option(name).get(session.compression));
  }
  text += fmt::format(" {} {} {} {} {} {} {} {} {}\n{}\n{}", sampling.temperature, sampling.top_k,
                      sampling.top_p, sampling.min_p, sampling.repeat_last_n,
                      sampling.repeat_penalty, sampling.presence_penalty,
                      sampling.frequency_penalty, sampling.seed, system, document);
  return text;
}

void print_pair(const Question& question, const GenerationResult& answer) {
  print(fmt::format("Q: {}\n", question.text));
  print_answer("A: " + std::string(trimmed(answer.text)) + "\n\n");
}

int ask(const AskFlags& flags) {
  require_model(flags.model);
  use_threads(flags.threads);
  CommandFiles files;
  files.reads("--model", flags.model);
  const std::vector<InputFile> documents = flags.folders.files(flags.documents);
  for (const InputFile& document : documents) files.reads("DOCUMENT", document.path);
  files.reads("--questions", flags.questions);
  for (const auto& [flag, file] : flags.session.files()) files.reads(flag, file);
  refuse_standard_output("--output", flags.output);
  const SamplingOptions sampling = flags.sampling.resolve();
  SessionOptions options = flags.session.session();
  const std::vector<Question> questions = questions_of(flags);
  const std::string text = read_documents(documents);

  const std::string path = model_file(flags.model);
  const Model model(path, flags.session.model());
  const Tokenizer tokenizer(path);
  const std::string system = flags.system.message(tokenizer);
  const DocumentPrompt prompt(tokenizer, system);
  const std::vector<int32_t> tokens = prompt.document(text);
  if (const auto share = flags.session.share()) {
    options.compression.budget = share->of(tokens.size());
  }

  if (repeat_chunk(options.compression) > 0) options.repeat = prompt.repeat_prompt();

  std::optional<AnswerFile> output;
  if (!flags.output.empty()) {
    output.emplace(flags.output, settings_of(flags, model, options, sampling, system, text));
  }
  std::vector<Question> left;
  for (const Question& question : questions) {
    if (!output || !output->done().contains(question.id)) left.push_back(question);
  }
  if (left.size() < questions.size()) {
    notice(fmt::format("{} of {} answers are there already", questions.size() - left.size(),
                       questions.size()));
  }
  if (left.empty()) return kSuccess;

  const Engine engine(model);
  Session document(engine, options);
  size_t longest = 0;
  for (const Question& question : left) {
    longest = std::max(longest, prompt.question(question.text).size() +
                                    question.max_tokens.value_or(flags.max_tokens));
  }
  require_fit(document, model.config().context_length, tokens.size() + longest, 0);
  catch_interrupts();
  AskSummary summary;
  summary.document_tokens = tokens.size();
  summary.read_seconds = read_tokens(document, tokens, "reading the document");
  summary.held = tokens_held(document.cache(), model.config());
  summary.kv_bytes = document.cache().kept_bytes();

  // Printed in the order of the questions, whatever is complete first.
  std::map<std::string, GenerationResult> early;
  size_t printed = 0;
  const auto store = [&](const Question& question, const GenerationResult& answer, double seconds) {
    if (output) {
      output->append(Json::object({{"id", question.id},
                                   {"question", question.text},
                                   {"answer", std::string(trimmed(answer.text))},
                                   {"finish_reason", finish_reason_name(answer.finish_reason)},
                                   {"tokens", answer.tokens.size()},
                                   {"seconds", seconds}}));
      return;
    }
    early.emplace(question.id, answer);
    for (; printed < left.size() && early.contains(left[printed].id); ++printed) {
      print_pair(left[printed], early.at(left[printed].id));
    }
  };
  Asker asker(flags, tokenizer, sampling, document, prompt);
  try {
    asker.answer(left, summary, store);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInterrupted && output) {
      notice("the same command goes on with the questions that are left");
    }
    say(summary.text());
    throw;
  }
  say(summary.text());
  return kSuccess;
}

}  // namespace

std::function<int()> declare_ask(ArgumentParser& parser) {
  auto flags = std::make_shared<AskFlags>();
  declare_model(parser, flags->model);
  parser
      .add_repeated("document", flags->documents,
                    "files that the questions are about, read once, one after the other", "DOC")
      .required();
  parser.add("--questions", flags->questions,
             "file with a question on each line, or JSON Lines with question, id and max_tokens",
             "FILE");
  parser.add_repeated("-q,--question", flags->asked, "a question; may be given several times",
                      "TEXT");
  parser.add("-o,--output", flags->output,
             "write the answers as JSON Lines; goes on where an earlier start has stopped", "FILE");
  flags->folders.declare(parser);
  flags->system.declare(parser);
  parser.add("-n,--max-tokens", flags->max_tokens, "most tokens of an answer", "N")
      .range(1, 1 << 20);
  parser.add("--parallel", flags->parallel, "questions answered at the same time", "N")
      .range(1, static_cast<double>(Engine::kMaxBatch));
  parser.add("-t,--threads", flags->threads, "threads; 0 is one per processor", "N");
  flags->session.declare(parser);
  flags->sampling.declare(parser);
  parser.set_footer(
      "The document is compressed before the questions are seen, and every question gets a copy\n"
      "of its cache: nothing is read twice.\n"
      "Examples:\n"
      "  restkv ask -m model.gguf report.txt -q 'Who wrote it?' -q 'When?'\n"
      "  restkv ask -m model.gguf report.txt --questions questions.jsonl -o answers.jsonl\n"
      "  restkv ask -m model.gguf src --glob '*.py' --questions q.txt --budget 25%\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  return [flags] { return ask(*flags); };
}

}  // namespace restkv::cli
