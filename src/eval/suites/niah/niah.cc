// Needle in a haystack: one sentence hidden in essays, over a grid of lengths and depths. Source:
// an-yongqi/rest-kv, run_needle_in_haystack.py; facts in prompts.json, `niah`.
#include "eval/suites/niah/niah.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "eval/suites/essays.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/niah/metrics.h"
#include "eval/suites/record_task.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr std::string_view kTask = "niah";
constexpr std::array<std::string_view, 1> kProfiles = {"restkv"};

const Json& facts() {
  static const Json& niah = benchmark_prompts().at("niah");
  return niah;
}

std::string fact(const char* name) { return facts().at(name).get<std::string>(); }

std::vector<TaskInfo> task_list() {
  return {{.name = std::string(kTask),
           .category = "retrieval",
           .metric = "overlap",
           .file = {},
           .source = {}}};
}

struct Place {
  size_t length = 0;
  size_t depth = 0;  ///< Percent.
};

/// The whole grid, or `limit` places spread evenly over it.
std::vector<Place> grid(const std::vector<size_t>& lengths, size_t limit) {
  std::vector<Place> all;
  for (const size_t length : lengths) {
    for (const Json& depth : facts().at("depth_percents")) {
      all.push_back({length, depth.get<size_t>()});
    }
  }
  if (limit == 0 || limit >= all.size()) return all;
  std::vector<Place> chosen;
  for (size_t i = 0; i < limit; ++i) chosen.push_back(all[i * all.size() / limit]);
  return chosen;
}

/// The haystack as tokens and the prompts made from it.
class EssayTokens {
 public:
  EssayTokens(const Tokenizer& tokenizer, const Essays& essays, size_t longest)
      : tokenizer_(tokenizer), needle_(tokenizer.encode(fact("needle"), false, false)) {
    std::string text;
    while (tokens_.size() < longest) {
      text += essays.raw;
      tokens_ = tokenizer.encode(text, false, false);
    }
    tokens_.resize(longest);
    for (size_t id = 0; id < tokenizer.vocabulary(); ++id) {
      const auto token = static_cast<int32_t>(id);
      if (tokenizer.piece(token) == ".") full_stops_.push_back(token);
    }
  }

  [[nodiscard]] std::string with_needle(const Place& place) const {
    const std::span<const int32_t> first = std::span(tokens_).first(place.length);
    // A text that is cut and encoded again can have a few tokens more or less.
    std::vector<int32_t> context = tokenizer_.encode(tokenizer_.decode(first), false, false);
    const size_t limit = place.length - facts().at("final_context_length_buffer").get<size_t>();
    if (context.size() + needle_.size() > limit) context.resize(limit - needle_.size());
    size_t position = context.size();
    if (place.depth < 100) {
      position = static_cast<size_t>(static_cast<double>(context.size()) *
                                     (static_cast<double>(place.depth) / 100));
      while (position > 0 && !is_full_stop(context[position - 1])) --position;
    }
    context.insert(context.begin() + static_cast<std::ptrdiff_t>(position), needle_.begin(),
                   needle_.end());
    return tokenizer_.decode(context);
  }

  [[nodiscard]] size_t needle_tokens() const { return needle_.size(); }

 private:
  [[nodiscard]] bool is_full_stop(int32_t token) const {
    return std::ranges::find(full_stops_, token) != full_stops_.end();
  }

  const Tokenizer& tokenizer_;
  std::vector<int32_t> needle_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> full_stops_;
};

std::vector<size_t> published_lengths() {
  const Json& range = facts().at("context_lengths");
  std::vector<size_t> lengths;
  for (auto length = range.at("min").get<size_t>(); length <= range.at("max").get<size_t>();
       length += range.at("step").get<size_t>()) {
    lengths.push_back(length);
  }
  return lengths;
}

class NiahTask : public Task {
 public:
  NiahTask(const Tokenizer& tokenizer, Essays essays, const std::vector<size_t>& lengths,
           size_t limit)
      : haystack_(tokenizer, essays, std::ranges::max(lengths)),
        notes_(std::move(essays.notes)),
        files_(std::move(essays.files)),
        places_(grid(lengths, limit)),
        published_(grid(published_lengths(), 0).size()) {
    for (const size_t length : lengths) {
      const auto needed =
          haystack_.needle_tokens() + facts().at("final_context_length_buffer").get<size_t>();
      if (length > needed) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("NIAH prompts of {} tokens have no room for the needle; use {} or "
                              "more",
                              length, needed + 1));
    }
  }

  [[nodiscard]] std::string name() const override { return std::string(kTask); }
  [[nodiscard]] std::string category() const override { return task_list()[0].category; }
  [[nodiscard]] size_t size() const override { return places_.size(); }
  [[nodiscard]] size_t published_size() const override { return published_; }
  [[nodiscard]] std::vector<std::string> notes() const override { return notes_; }
  [[nodiscard]] std::vector<std::filesystem::path> files() const override { return files_; }

  [[nodiscard]] Sample sample(size_t index) const override {
    const Place& place = places_.at(index);
    Sample sample;
    sample.id = fmt::format("{}_{}", place.length, place.depth);
    const std::string context = haystack_.with_needle(place);
    FilledPrompt prompt = fill_prompt(
        fact("prompt"), {{"context", context}, {"question", fact("retrieval_question")}});
    sample.prompt = std::move(prompt.text);
    sample.context_end = prompt.context_end;
    sample.always_raw = true;
    sample.length = place.length;
    sample.depth = static_cast<double>(place.depth) / 100;
    sample.max_new_tokens = facts().at("max_new_tokens").get<size_t>();
    sample.stop_at_newline_token = true;
    sample.reference = {{"expected", fact("heatmap_expected_answer")}, {"needle", fact("needle")}};
    return sample;
  }

  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    const auto expected = sample.reference.at("expected").get<std::string>();
    const auto needle = sample.reference.at("needle").get<std::string>();
    return {{"overlap", niah_overlap(answer.text, expected)},
            {"rouge1", niah_rouge_score(answer.text, needle) / 10}};
  }

 private:
  EssayTokens haystack_;
  std::vector<std::string> notes_;
  std::vector<std::filesystem::path> files_;
  std::vector<Place> places_;
  size_t published_;
};

std::vector<size_t> chosen_lengths(const SuiteOptions& options) {
  std::vector<size_t> lengths = choose_lengths(options, published_lengths());
  if (lengths.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the model's context has {} tokens, but the lengths of NIAH begin at "
                            "1000; choose others, for instance lengths {}",
                            options.context, options.context));
  }
  return lengths;
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options, std::vector<SkippedLine>&) {
  choose_profile(options.profile, kProfiles);
  choose_tasks(task_list(), options.tasks);
  const std::vector<size_t> lengths = chosen_lengths(options);
  std::vector<std::unique_ptr<Task>> tasks;
  tasks.push_back(std::make_unique<NiahTask>(
      *options.tokenizer, load_essays(options.data, std::ranges::max(lengths), options.seed),
      lengths, options.limit));
  return tasks;
}

}  // namespace

Suite niah_suite() {
  return {.name = "niah",
          .summary = "needle in a haystack: one sentence at 10 depths of 156 lengths",
          .tasks = task_list,
          .open = open,
          .remark =
              "scored by words in common with the needle, as the ReST-KV code does; the "
              "original test has a model judge and cannot be compared",
          .has_contexts = true,
          .has_lengths = true,
          .draws_samples = true};
}

}  // namespace restkv::eval
