#include "eval/suites/perplexity/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "eval/suites/find_file.h"
#include "eval/suites/record_task.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

constexpr size_t kScored = 512;  ///< Tokens scored after each prompt.
constexpr std::array<size_t, 3> kPrompts = {2048, 8192, 32768};
constexpr std::array<std::string_view, 1> kProfiles = {"official"};

const std::vector<TaskInfo>& infos() {
  static const std::vector<TaskInfo> kInfos = [] {
    TaskInfo info;
    info.category = "perplexity";
    info.metric = "perplexity";
    info.file = "perplexity/wikitext2_test_tokenized.txt";
    info.source =
        "https://github.com/pytorch/examples (word_language_model/data/wikitext-2/test.txt); any "
        "text file works as data, FILE.txt";
    info.other_files = {"perplexity/wiki.test.raw", "wikitext-2-raw/wiki.test.raw",
                        "wikitext-2/wiki.test.tokens", "wikitext-2/test.txt"};
    std::vector<TaskInfo> both(2, info);
    both[0].name = "continuation";
    both[1].name = "sliding";
    return both;
  }();
  return kInfos;
}

struct Text {
  fs::path file;
  std::vector<int32_t> begin;  ///< Special tokens before every text.
  std::vector<int32_t> tokens;
};

/// Windows over one text: a prompt, which is compressed, and the scored tokens after it.
class WindowTask : public Task {
 public:
  struct Windows {
    size_t prompt = 0;  ///< Tokens, with those before every text.
    size_t stride = 0;  ///< From one window to the next.
  };

  WindowTask(std::string name, std::shared_ptr<const Text> text, Windows windows, size_t limit)
      : name_(std::move(name)), text_(std::move(text)), windows_(windows) {
    const size_t needed = windows_.prompt - text_->begin.size() + kScored;
    const size_t held = text_->tokens.size();
    if (held < needed) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: holds {} tokens; '{}' needs {}: use a longer text or smaller "
                              "lengths",
                              text_->file.string(), held, name_, needed));
    }
    count_ = (held - needed) / windows_.stride + 1;
    if (limit != 0) count_ = std::min(count_, limit);
  }

  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] std::string category() const override { return "perplexity"; }
  [[nodiscard]] size_t size() const override { return count_; }
  [[nodiscard]] Sample sample(size_t index) const override {
    const auto at = text_->tokens.begin() + static_cast<ptrdiff_t>(index * windows_.stride);
    const auto prompt_end = at + static_cast<ptrdiff_t>(windows_.prompt - text_->begin.size());
    Sample sample;
    sample.id = fmt::format("token-{}", index * windows_.stride);
    sample.mode = SampleMode::kContinue;
    sample.tokens = text_->begin;
    sample.tokens.insert(sample.tokens.end(), at, prompt_end);
    sample.continuation.assign(prompt_end, prompt_end + kScored);
    sample.length = windows_.prompt;
    return sample;
  }
  [[nodiscard]] Scores score(const Sample& /*sample*/, const Answer& answer) const override {
    return loss_scores(answer);
  }
  [[nodiscard]] bool lower_is_better() const override { return true; }
  [[nodiscard]] std::vector<fs::path> files() const override { return {text_->file}; }

 private:
  std::string name_;
  std::shared_ptr<const Text> text_;
  Windows windows_;
  size_t count_ = 0;
};

fs::path find_text(const fs::path& data) {
  std::error_code ignored;
  if (fs::is_regular_file(data, ignored)) return data;
  return find_task_file(infos().front(), data).value_or(fs::path());
}

std::shared_ptr<const Text> read_text(const fs::path& file, const Tokenizer& tokenizer) {
  auto text = std::make_shared<Text>();
  text->file = file;
  text->begin = tokenizer.encode("", true, false);
  const std::string content = to_utf8(read_file(file.string()), file.string());
  text->tokens = tokenizer.encode(content, false, false);
  return text;
}

/// The given prompt lengths, limited so that the scored tokens fit the model; each once.
std::vector<size_t> prompt_lengths(const SuiteOptions& options) {
  std::vector<size_t> wanted = options.lengths;
  if (wanted.empty()) wanted.assign(kPrompts.begin(), kPrompts.end());
  std::vector<size_t> lengths;
  for (size_t length : wanted) {
    if (options.context != 0) {
      if (options.context <= kScored + 1) {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("a context of {} tokens leaves no prompt before the {} scored ones",
                                options.context, kScored));
      }
      length = std::min(length, options.context - kScored);
    }
    if (length < 2) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("a prompt of {} tokens is too short; the least is 2", length));
    }
    if (std::ranges::find(lengths, length) == lengths.end()) lengths.push_back(length);
  }
  return lengths;
}

std::vector<TaskInfo> tasks() { return infos(); }

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& /*skipped*/) {
  choose_profile(options.profile, kProfiles);
  const std::vector<std::string> chosen = choose_tasks(infos(), options.tasks);
  const std::vector<size_t> lengths = prompt_lengths(options);
  const fs::path file = find_text(options.data);
  if (file.empty()) {
    if (options.tasks.empty()) return {};
    throw Error(ErrorCode::kInput,
                fmt::format("there is no {} in '{}'; get it from {}", infos().front().file,
                            options.data.string(), infos().front().source));
  }
  if (options.tokenizer == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "perplexity needs the model's tokenizer");
  }
  const auto text = read_text(file, *options.tokenizer);
  std::vector<std::unique_ptr<Task>> opened;
  for (const std::string& name : chosen) {
    for (const size_t length : lengths) {
      const size_t stride = name == "sliding" ? kScored : length - text->begin.size() + kScored;
      const WindowTask::Windows windows{.prompt = length, .stride = stride};
      const std::string full_name = fmt::format("{}@{}", name, length);
      // Usual lengths that exceed the text are left out.
      const bool fits = text->tokens.size() + text->begin.size() >= length + kScored;
      if (!fits && options.lengths.empty() && length > lengths.front()) continue;
      opened.push_back(std::make_unique<WindowTask>(full_name, text, windows, options.limit));
    }
  }
  return opened;
}

}  // namespace

Scores loss_scores(const Answer& answer) {
  const auto count = static_cast<double>(answer.token_losses.size());
  const double sum = std::accumulate(answer.token_losses.begin(), answer.token_losses.end(), 0.0);
  return {{"nll", sum / count}, {"tokens", count}};
}

Scores summarize_losses(std::string_view /*task*/, std::span<const Scores> samples) {
  double sum = 0;
  double count = 0;
  for (const Scores& sample : samples) {
    sum += sample.at(0).second * sample.at(1).second;
    count += sample.at(1).second;
  }
  return {{"perplexity", std::exp(sum / count)}, {"nll", sum / count}};
}

Suite perplexity_suite() {
  return {.name = "perplexity",
          .summary = "the loss of the tokens after a compressed prompt, window by window",
          .tasks = tasks,
          .open = open,
          .summarize = summarize_losses,
          .remark =
              "per token of the model's own vocabulary: models with different tokenizers "
              "cannot be compared, nor texts in word-tokenised and raw form",
          .scores_tokens = true,
          .takes_file = true,
          .has_lengths = true};
}

}  // namespace restkv::eval
