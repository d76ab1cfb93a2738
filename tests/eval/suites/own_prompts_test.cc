#include "eval/suites/own_prompts/own_prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/suite_fixture.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using restkv::testing::TemporaryFolder;
using test::figure;
using test::names;
using test::open_suite;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Suite kSuite = own_prompts_suite();

class OwnPromptsTest : public ::testing::Test {
 protected:
  OwnPromptsTest() { options_.tokenizer = &tokenizer_; }

  /// The tasks of a file with these lines; `skipped_` gets what was left out.
  std::vector<std::unique_ptr<Task>> open(const std::string& lines) {
    options_.data = folder_.file("prompts.jsonl");
    std::ofstream(options_.data) << lines;
    skipped_.clear();
    return kSuite.open(options_, skipped_);
  }
  /// Why a file with one record is refused.
  std::string refused(const std::string& line) {
    return restkv::testing::refusal_if_any([&] { open(line); });
  }

  TemporaryFolder folder_;
  Tokenizer tokenizer_{testing::test_model_path()};
  SuiteOptions options_;
  std::vector<SkippedLine> skipped_;
};

TEST_F(OwnPromptsTest, ReadsTextsAndTokens) {
  const auto tasks =
      open(R"({"text": "One and one is", "answers": "two", "extra": 1})"
           "\n"
           R"({"id": 7, "token_ids": [1, 2, 3], "answers": ["a", "b"], "max_new_tokens": 5,)"
           R"( "stop": ["\n"], "length": 2048, "depth": 0.25, "task": "needle"})"
           "\n"
           R"({"id": "seven", "text": "x", "answers": ["a"], "task": "needle", "length": 2048})");
  EXPECT_THAT(names(tasks), ElementsAre("prompts", "needle@2048"));
  const Sample text = tasks[0]->sample(0);
  EXPECT_EQ(text.id, "line-1");
  EXPECT_EQ(text.prompt, "One and one is");
  EXPECT_EQ(text.max_new_tokens, 64U);
  EXPECT_EQ(text.min_new_tokens, 0U);
  EXPECT_FALSE(text.always_raw);
  const Sample tokens = tasks[1]->sample(0);
  EXPECT_EQ(tokens.id, "7");
  EXPECT_THAT(tokens.tokens, ElementsAre(1, 2, 3));
  EXPECT_EQ(tokens.max_new_tokens, 5U);
  EXPECT_THAT(tokens.stops, ElementsAre("\n"));
  EXPECT_EQ(tokens.length, 2048U);
  EXPECT_EQ(tokens.depth, 0.25);
  EXPECT_EQ(tasks[1]->sample(1).id, "seven");
  EXPECT_EQ(figure(tasks[1]->score(tokens, test::text_answer("Is it B?")), "string_match_all"),
            0.5);
  EXPECT_EQ(figure(tasks[0]->score(text, test::text_answer(" TWO.")), "string_match_all"), 1);
}

TEST_F(OwnPromptsTest, JudgesWithTheMetricNamed) {
  const std::map<std::string, std::pair<std::string, double>> answers = {
      {"string_match_part", {"a b", 1}}, {"qa_f1", {"the right answer", 0.8}},
      {"rouge_l", {"answer", 2.0 / 3}},  {"count", {"1 or 2", 0.5}},
      {"code_sim", {"answer is", 1}},    {"classification", {"answer is no", 1}}};
  for (const auto& [metric, expected] : answers) {
    const Json record = {{"text", "q"},
                         {"answers", {metric == "count" ? "2" : "answer is", "right answer is"}},
                         {"metric", metric},
                         {"all_classes", {"answer is", "other"}}};
    Json other = record;
    if (metric == "string_match_part") other["answers"] = {"A", "z"};
    const auto tasks = open(other.dump());
    EXPECT_NEAR(
        figure(tasks[0]->score(tasks[0]->sample(0), test::text_answer(expected.first)), metric),
        expected.second, 1e-8)
        << metric;
  }
}

TEST_F(OwnPromptsTest, ContinuationsAreJudgedByTheirLoss) {
  const auto tasks = open(R"({"id": "p", "token_ids": [1, 2], "continuation_ids": [3, 4]})");
  EXPECT_THAT(names(tasks), ElementsAre("perplexity"));
  EXPECT_TRUE(tasks[0]->lower_is_better());
  const Sample sample = tasks[0]->sample(0);
  EXPECT_EQ(sample.mode, SampleMode::kContinue);
  EXPECT_THAT(sample.continuation, ElementsAre(3, 4));
  const std::vector<Scores> scores = {tasks[0]->score(sample, test::loss_answer({1, 2})),
                                      tasks[0]->score(sample, test::loss_answer({4}))};
  EXPECT_EQ(kSuite.summarize("perplexity", scores)[0].first, "perplexity");
  EXPECT_DOUBLE_EQ(figure(kSuite.summarize("perplexity", scores), "nll"), 7.0 / 3);
  EXPECT_DOUBLE_EQ(figure(kSuite.summarize("perplexity", scores), "perplexity"), std::exp(7.0 / 3));
}

TEST_F(OwnPromptsTest, RefusesWhatItCannotUse) {
  const std::map<std::string, std::string> reasons = {
      {R"({"answers": ["a"]})", "needs one of the fields 'text' and 'token_ids'"},
      {R"({"text": "t", "token_ids": [1], "answers": ["a"]})", "has both"},
      {R"({"text": "", "answers": ["a"]})", "'text' is empty"},
      {R"({"text": "t"})", "'answers' is missing"},
      {R"({"text": "t", "answers": []})", "'answers' is an empty list"},
      {R"({"text": "t", "answers": [""]})", "item 1 of field 'answers' is empty"},
      {R"({"text": "t", "answers": " "})", "item 1 of field 'answers' is empty"},
      {R"({"text": "t", "answers": ["a", "\t\n"]})", "item 2 of field 'answers' is empty"},
      {R"({"text": "t", "answers": ["\u3000"]})", "item 1 of field 'answers' is empty"},
      {R"({"text": "t", "answers": ["a", 4711]})", "list of texts; its item 2 is 4711"},
      {R"({"text": "t", "answers": ["a", ["b"]]})", "its item 2 is of type array"},
      {R"({"text": "t", "answers": null})", "must be a list, not null"},
      {R"({"text": "t", "answers": ["a"], "metric": "classification"})",
       "classification has no classes to look for; name them in 'all_classes'"},
      {R"({"text": "t", "answers": ["a"], "metric": "classification", "all_classes": null})",
       "name them in 'all_classes'"},
      {R"({"text": "t", "answers": ["a"], "metric": "classification", "all_classes": []})",
       "'all_classes' is an empty list"},
      {R"({"text": "t", "answers": ["a"], "metric": "classification", "all_classes": ["b", ""]})",
       "item 2 of field 'all_classes' is empty"},
      {R"({"text": "t", "answers": ["a"], "metric": "classification", "all_classes": ["b"]})",
       "no use for the answer 'a': it is not among 'all_classes'"},
      {R"({"text": "t", "answers": ["five"], "metric": "count"})",
       "no use for the answer 'five': it is no number"},
      {R"({"text": "t", "answers": ["The"], "metric": "qa_f1"})",
       "no use for the answer 'The': it holds no word that counts"},
      {R"({"text": "t", "answers": ["third"], "metric": "retrieval"})", "names no paragraph"},
      {R"({"text": "t", "answers": [], "metric": "rouge_l"})", "'answers' is an empty list"},
      {R"({"text": "t", "answers": [""], "metric": "code_sim"})", "item 1 of field 'answers'"},
      {R"({"text": "t", "answers": ["a"], "stop": ["b", ""]})", "'stop' holds an empty text"},
      {R"({"text": "t", "answers": [1]})", "'answers' must be a list of texts"},
      {R"({"text": "t", "answers": ["a"], "metric": "f2"})",
       "no metric 'f2'; known: string_match_all, string_match_part, qa_f1, "},
      {R"({"text": "t", "answers": ["a"], "max_new_tokens": 0})", "must be 1 to 1048576, not 0"},
      {R"({"text": "t", "answers": ["a"], "max_new_tokens": "9"})", "must be a whole number"},
      {R"({"text": "t", "answers": ["a"], "depth": 25})", "'depth' must be 0 to 1, not 25"},
      {R"({"token_ids": [1, -1], "answers": ["a"]})", "holds -1, which is no token"},
      {R"({"token_ids": [49152], "answers": ["a"]})", "(0 to 49151)"},
      {R"({"token_ids": [1.5], "answers": ["a"]})", "holds 1.5"},
      {R"({"token_ids": [], "answers": ["a"]})", "'token_ids' is empty"},
      {R"({"text": "abc", "context_end": 3, "answers": ["a"]})", "1 to 2 of 3 characters"},
      {R"({"token_ids": [1, 2, 3], "context_end": 2, "context_begin": 2, "answers": ["a"]})",
       "'context_begin' is 2, but the context ends at token 2"},
      {R"({"text": "abc", "context_begin": 1, "answers": ["a"]})", "belongs to 'token_ids'"},
      {R"({"token_ids": [1, 2], "context_end": 0, "answers": ["a"]})", "1 to 1 of 2 tokens"},
      {R"({"token_ids": [1], "continuation_ids": []})", "'continuation_ids' is empty"},
      {R"({"text": "t", "token_ids": [1], "answers": ["a"]})", "has both 'text' and 'token_ids'"},
      {R"({"text": "t", "continuation_ids": [1], "answers": ["a"]})",
       "'answers' has no effect beside 'continuation_ids'"},
      {R"({"text": "t", "continuation_ids": [1], "stop": ["b"]})", "'stop' has no effect"}};
  for (const auto& [line, reason] : reasons) EXPECT_THAT(refused(line), HasSubstr(reason)) << line;

  const auto tasks = open(R"({"text": "t", "answers": ["a"]})"
                          "\n"
                          R"({"text": "t", "answers": ["b"], "metric": "qa_f1"})"
                          "\n"
                          R"({"text": "t", "answers": 3})");
  EXPECT_EQ(tasks[0]->size(), 1U);
  ASSERT_EQ(skipped_.size(), 2U);
  EXPECT_THAT(skipped_[0].reason, HasSubstr("the task 'prompts' began with 'string_match_all'"));
  EXPECT_EQ(skipped_[1].line, 3U);
}

TEST_F(OwnPromptsTest, TakesTheTasksAndAsManyRecordsAsWanted) {
  std::string lines;
  for (const char* task : {"a", "b", "a", "a", "b"}) {
    lines += Json{{"text", "t"}, {"answers", "x"}, {"task", task}}.dump() + "\n";
  }
  EXPECT_EQ(open(lines)[0]->size(), 3U);
  options_.limit = 2;
  options_.tasks = {"b"};
  const auto tasks = open(lines);
  EXPECT_THAT(names(tasks), ElementsAre("b"));
  EXPECT_EQ(tasks[0]->size(), 2U);
  EXPECT_EQ(tasks[0]->sample(1).id, "line-5");
  options_.tasks = {"c"};
  EXPECT_THAT(refused(lines), HasSubstr("no task 'c'; known: a, b"));
}

TEST_F(OwnPromptsTest, NeedsAFile) {
  options_.data = folder_.file("");
  EXPECT_THROW(kSuite.open(options_, skipped_), Error);
  options_.data = folder_.file("missing.jsonl");
  EXPECT_THROW(kSuite.open(options_, skipped_), Error);
}

/// The prompt sets that reference results exist for.
TEST_F(OwnPromptsTest, ReadsThePromptSets) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const Json reference = read_json((data / "quality/reference.json").string());
  const auto open_file = [&](const char* name) {
    options_.data = data / "quality" / name;
    return open_suite(kSuite, options_);
  };
  for (const char* length : {"1024", "2048", "4096"}) {
    const auto tasks = open_file(("smollm2_" + std::string(length) + ".jsonl").c_str());
    const Json& accuracy = reference.at("accuracy").at("smollm2").at(length);
    EXPECT_EQ(tasks.size(), accuracy.size());
    for (const auto& task : tasks) {
      EXPECT_EQ(task->size(), 10U);
      EXPECT_TRUE(accuracy.contains(task->name().substr(0, task->name().find('@'))));
      for (size_t i = 0; i < task->size(); ++i) {
        const Sample sample = task->sample(i);
        EXPECT_TRUE(reference.at("per_prompt").contains(sample.id));
        EXPECT_LE(sample.tokens.size() + sample.max_new_tokens, std::stoul(length));
      }
    }
  }
  const auto losses = open_file("smollm2_perplexity.jsonl");
  EXPECT_THAT(names(losses), ElementsAre("perplexity"));
  EXPECT_EQ(losses[0]->size(), 5U);
  EXPECT_EQ(losses[0]->sample(0).tokens.size(), 3584U);
  EXPECT_EQ(losses[0]->sample(0).continuation.size(), 256U);
  // Tokens of a model with a larger vocabulary.
  EXPECT_THROW(open_file("gemma3_4096.jsonl"), Error);
}

}  // namespace
}  // namespace restkv::eval
