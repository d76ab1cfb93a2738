#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "eval/suite.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/essays.h"
#include "eval/suites/find_file.h"
#include "eval/suites/ruler/fit_units.h"
#include "eval/suites/ruler/generator.h"
#include "eval/suites/ruler/question_answering.h"
#include "eval/suites/ruler_layout.h"
#include "restkv/error.h"
#include "restkv/tokenizer.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using restkv::testing::refusal;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

/// SmolLM2's, with which the samples in tests/data/ruler were made.
const Tokenizer& tokenizer() {
  static const Tokenizer kTokenizer(testing::test_model_path());
  return kTokenizer;
}

size_t count_tokens(std::string_view text) { return tokenizer().encode(text, false, false).size(); }

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options) {
  std::vector<SkippedLine> skipped;
  auto tasks = find_suite("ruler").open(options, skipped);
  EXPECT_TRUE(skipped.empty());
  return tasks;
}

SuiteOptions small_run(size_t length) {
  SuiteOptions options;
  options.tokenizer = &tokenizer();
  options.lengths = {length};
  options.limit = 3;
  return options;
}

RulerSample published(const std::string& task, size_t length, const Json& record) {
  return {.task = task,
          .length = length,
          .input = record.at("input").get<std::string>(),
          .answers = record.at("outputs").get<std::vector<std::string>>()};
}

RulerSample ours(const std::string& task, size_t length, const Sample& sample) {
  return {.task = task,
          .length = length,
          .input = sample.prompt + sample.answer_prefix,
          .answers = sample.reference.at("answers").get<std::vector<std::string>>()};
}

size_t tokens_to_generate(const std::string& task) {
  return benchmark_prompts()
      .at("ruler")
      .at("tasks")
      .at(task)
      .at("tokens_to_generate")
      .get<size_t>();
}

/// Tokens without those for the answer. In vt the example counts by itself, in fwe the answer is
/// not counted, so that a prompt can have all tokens.
void expect_length(const std::string& task, size_t length, const Sample& sample) {
  const size_t tokens = count_tokens(sample.prompt + sample.answer_prefix);
  const size_t slack = task == "vt" ? 4 : 0;
  EXPECT_LE(tokens + (task == "fwe" ? 0 : tokens_to_generate(task)), length + slack) << task;
  // Documents aside, which can be long, the largest steps are 500 words of the essays or, from 4096
  // tokens on, 25 pairs of UUIDs.
  const size_t step = length < 4096 ? 900 : 2100;
  EXPECT_TRUE(tokens + step > length || task.starts_with("qa")) << task << " " << tokens;
}

/// Samples of a folder of RULER's files and of this project, made for the same tokenizer and
/// length, read by the same reader.
void compare_with_published(const std::filesystem::path& folder, size_t length,
                            const SuiteOptions& options,
                            const std::map<std::string, RulerSources>& sources,
                            bool same_tokenizer) {
  size_t compared = 0;
  for (const auto& task : open(options)) {
    const std::string name = task->name();
    const std::filesystem::path file = folder / (name + ".jsonl");
    if (!std::filesystem::exists(file)) continue;
    const auto known = sources.find(name);
    const RulerSources source = known == sources.end() ? RulerSources{} : known->second;
    std::vector<size_t> units;
    for (const Json& record : test::read_jsonl(file)) {
      units.push_back(read_ruler_sample(published(name, length, record), source));
    }
    for (size_t i = 0; i < task->size(); ++i) {
      const Sample sample = task->sample(i);
      expect_length(name, length, sample);
      const size_t our_units = read_ruler_sample(ours(name, length, sample), source);
      if (!same_tokenizer) continue;
      // Words drawn at random differ in tokens.
      const size_t tolerance = name == "fwe" ? 3 * (length / 32) : name == "cwe" ? 10 : 0;
      EXPECT_NEAR(static_cast<double>(our_units), static_cast<double>(units.front()),
                  static_cast<double>(tolerance))
          << name;
    }
    ++compared;
  }
  EXPECT_GE(compared, 6U);
}

TEST(Ruler, SamplesAreLaidOutLikeThePublishedOnes) {
  SuiteOptions options = small_run(2048);
  options.tasks = {"niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"};
  compare_with_published(std::filesystem::path(RESTKV_TEST_DATA_DIR) / "ruler", 2048, options, {},
                         true);
}

struct PublishedSources {
  Essays essays;
  std::vector<std::string> squad, hotpotqa;
  explicit PublishedSources(const std::filesystem::path& data)
      : essays(load_essays(data, 0, 0)),
        squad(ruler::read_squad(find_file(data, "ruler/squad*.json").value()).documents),
        hotpotqa(ruler::read_hotpotqa(find_file(data, "ruler/hotpotqa*.json").value()).documents) {}
  [[nodiscard]] std::map<std::string, RulerSources> by_task() const {
    std::map<std::string, RulerSources> sources;
    for (const char* task : {"niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue",
                             "niah_multiquery"}) {
      sources[task].essays = &essays;
    }
    sources["qa_1"].documents = &squad;
    sources["qa_2"].documents = &hotpotqa;
    return sources;
  }
};

TEST(Ruler, AllTasksAreLaidOutLikeThePublishedOnes) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  RESTKV_FOLDER_OR_SKIP(samples, "RESTKV_RULER_SAMPLES");
  const PublishedSources sources(data);
  SuiteOptions options = small_run(2048);
  options.data = data;
  compare_with_published(samples, 2048, options, sources.by_task(), true);
}

TEST(Ruler, LongerSamplesAreLaidOutLikeThePublishedOnes) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const PublishedSources sources(data);
  SuiteOptions options = small_run(4096);
  options.data = data;
  compare_with_published(data / "ruler/cl100k_4096", 4096, options, sources.by_task(), false);
}

TEST(Ruler, StoriesStandInForMissingEssays) {
  SuiteOptions options = small_run(2048);
  const Essays stories = load_essays("", 2048, options.seed);
  options.tasks = {"niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue",
                   "niah_multiquery"};
  for (const auto& task : open(options)) {
    EXPECT_THAT(task->notes(), Contains(HasSubstr("generated stories (project-defined)")));
    EXPECT_TRUE(task->files().empty());
    for (size_t i = 0; i < task->size(); ++i) {
      const Sample sample = task->sample(i);
      expect_length(task->name(), 2048, sample);
      read_ruler_sample(ours(task->name(), 2048, sample), {.essays = &stories});
    }
  }
}

TEST(Ruler, SearchFindsWhatTheStepByStepRuleFinds) {
  const Json& prompts = benchmark_prompts().at("ruler");
  const auto essays = std::make_shared<Essays>(load_essays("", 3000, 1));
  for (const char* name :
       {"niah_single_1", "niah_multikey_1", "niah_multikey_3", "vt", "cwe", "fwe"}) {
    for (const size_t length : {1200, 3000}) {
      const ruler::Setup setup{.prompts = &prompts,
                               .task = &prompts.at("tasks").at(name),
                               .length = length,
                               .seed = 7,
                               .count_tokens = count_tokens,
                               .essays = essays};
      const auto kind = setup.task->at("generator").get<std::string>();
      const auto generator = kind == "niah"                ? needle_generator(setup)
                             : kind == "variable_tracking" ? variable_tracking_generator(setup)
                             : kind == "common_words_extraction" ? common_words_generator(setup)
                                                                 : frequent_words_generator(setup);
      const ruler::Fit fit{.length = length,
                           .tokens_to_generate = tokens_to_generate(name),
                           .count_tokens = count_tokens};
      size_t made = 0;
      const auto make = [&](size_t units) {
        ++made;
        Random random(3);
        return generator->make(random, units, 0);
      };
      const size_t found = fit_units(*generator, fit, make);
      EXPECT_LE(made, 12U) << name;

      size_t units = generator->fewest();
      const auto too_long = [&] {
        const ruler::Text text = make(units);
        const size_t tokens = count_tokens(text.prompt + text.answer_prefix + text.fitting_answer);
        return kind == "freq_words_extraction"
                   ? tokens >= length
                   : tokens + generator->extra_tokens() + fit.tokens_to_generate > length;
      };
      while (!too_long()) units += generator->step();
      EXPECT_EQ(found, units - generator->step()) << name << " " << length;
    }
  }
}

TEST(Ruler, SamplesDependOnTheirOwnNumberOnly) {
  SuiteOptions options = small_run(1024);
  options.tasks = {"niah_single_1", "niah_multiquery", "vt", "cwe", "fwe"};
  const auto all = open(options);
  options.limit = 2;
  const auto two = open(options);
  options.seed = 43;
  const auto others = open(options);
  for (size_t t = 0; t < all.size(); ++t) {
    EXPECT_EQ(all[t]->size(), 3U);
    EXPECT_EQ(two[t]->size(), 2U);
    EXPECT_EQ(two[t]->sample(1).prompt, all[t]->sample(1).prompt);
    EXPECT_EQ(two[t]->sample(1).id, all[t]->sample(1).id);
    EXPECT_NE(all[t]->sample(0).prompt, all[t]->sample(1).prompt);
    EXPECT_NE(others[t]->sample(1).prompt, all[t]->sample(1).prompt);
  }
}

TEST(Ruler, ALengthIsKeptFreeForAChatTemplate) {
  SuiteOptions options = small_run(1024);
  options.tasks = {"niah_multikey_2"};
  options.reserved = 300;
  const Sample sample = open(options)[0]->sample(0);
  EXPECT_LE(count_tokens(sample.prompt + sample.answer_prefix) + 128 + 300, 1024U);
}

TEST(Ruler, SamplesOfAllLengthsAreOneTask) {
  SuiteOptions options = small_run(1024);
  options.lengths = {1024, 2048};
  options.tasks = {"niah_single_1"};
  const auto tasks = open(options);
  ASSERT_THAT(tasks, SizeIs(1));
  EXPECT_EQ(tasks[0]->size(), 6U);
  EXPECT_EQ(tasks[0]->published_size(), 1000U);
  EXPECT_EQ(tasks[0]->sample(0).length, 1024U);
  EXPECT_EQ(tasks[0]->sample(5).length, 2048U);
  EXPECT_EQ(tasks[0]->sample(5).id, "2048_2");
  const Sample sample = tasks[0]->sample(3);
  const auto answer = sample.reference.at("answers")[0].get<std::string>();
  const double exact =
      static_cast<double>(sample.prompt.find(answer)) / static_cast<double>(sample.prompt.size());
  EXPECT_NEAR(sample.depth.value(), exact, 0.1);
}

TEST(Ruler, ProfilesDifferInTasksTokensAndScoring) {
  SuiteOptions options = small_run(2048);
  options.limit = 1;
  const auto official = open(options);
  EXPECT_THAT(official, SizeIs(11)) << "qa needs files";
  EXPECT_EQ(official[8]->name(), "vt");
  EXPECT_EQ(official[8]->sample(0).max_new_tokens, 30U);
  EXPECT_FALSE(official[8]->sample(0).always_raw);
  options.profile = "restkv";
  const auto restkv = open(options);
  EXPECT_THAT(restkv, SizeIs(11));
  EXPECT_EQ(restkv[8]->sample(0).max_new_tokens, 64U);
  EXPECT_TRUE(restkv[8]->sample(0).always_raw);
  EXPECT_EQ(restkv[8]->sample(0).prompt, official[8]->sample(0).prompt);

  const Sample sample = restkv[0]->sample(0);
  Answer answer;
  answer.text = " " + sample.reference.at("answers")[0].get<std::string>() + ".";
  EXPECT_EQ(official[0]->score(sample, answer), (Scores{{"string_match_all", 1.0}}));
  answer.text = "no idea";
  EXPECT_EQ(official[0]->score(sample, answer), (Scores{{"string_match_all", 0.0}}));
  const std::vector<Scores> scores = {
      {{"string_match_all", 1.0}}, {{"string_match_all", 0.0}}, {{"string_match_all", 1.0}}};
  EXPECT_EQ(find_suite("ruler").summarize("vt", scores), (Scores{{"string_match_all", 66.67}}));
}

TEST(Ruler, BadOptionsAreNamed) {
  SuiteOptions options = small_run(2048);
  options.tasks = {"niah_single_9"};
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { open(options); }),
              AllOf(HasSubstr("niah_single_9"), HasSubstr("niah_multikey_1")));
  options.tasks = {"qa_1"};
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { open(options); }),
              AllOf(HasSubstr("qa_1"), HasSubstr("squad"), HasSubstr("SQuAD-explorer")));
  options.tasks = {"cwe"};
  options.lengths = {300};
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { open(options); }),
              AllOf(HasSubstr("cwe"), HasSubstr("300"), HasSubstr("raise the length")));
  options.lengths = {20};
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { open(options); }), HasSubstr("20"));
  options.lengths = {};
  options.context = 2048;
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { open(options); }),
              HasSubstr("lengths 2048"));
  options.context = 8192;
  EXPECT_EQ(open(options)[0]->size(), 6U) << "4096 and 8192";
  options.profile = "other";
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { open(options); }), HasSubstr("other"));
}

}  // namespace
}  // namespace restkv::eval
