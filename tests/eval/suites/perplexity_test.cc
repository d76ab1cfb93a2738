#include "eval/suites/perplexity/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>

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
using ::testing::IsEmpty;

const Suite kSuite = perplexity_suite();

class PerplexityTest : public ::testing::Test {
 protected:
  PerplexityTest() {
    for (size_t i = 0; i < 900; ++i) text_ += "the " + std::to_string(i * i % 997) + "th day, ";
    std::ofstream(folder_.file("text.txt")) << text_;
    options_.data = folder_.file("text.txt");
    options_.tokenizer = &tokenizer_;
  }

  std::string error() {
    return restkv::testing::refusal_if_any([&] { open_suite(kSuite, options_); });
  }

  TemporaryFolder folder_;
  Tokenizer tokenizer_{testing::test_model_path()};
  SuiteOptions options_;
  std::string text_;
};

TEST_F(PerplexityTest, WindowsFollowEachOther) {
  const std::vector<int32_t> tokens = tokenizer_.encode(text_, false, false);
  ASSERT_GT(tokens.size(), 5000U);
  options_.lengths = {700, 1000};
  const auto tasks = open_suite(kSuite, options_);
  ASSERT_THAT(names(tasks),
              ElementsAre("continuation@700", "continuation@1000", "sliding@700", "sliding@1000"));
  for (const auto& task : tasks) {
    const size_t prompt = task->name().ends_with("1000") ? 1000 : 700;
    const size_t stride = task->name().starts_with("sliding") ? 512 : prompt + 512;
    EXPECT_EQ(task->size(), (tokens.size() - prompt - 512) / stride + 1);
    EXPECT_TRUE(task->lower_is_better());
    for (size_t i = 0; i < task->size(); ++i) {
      const Sample sample = task->sample(i);
      EXPECT_EQ(sample.mode, SampleMode::kContinue);
      ASSERT_EQ(sample.tokens.size(), prompt);
      ASSERT_EQ(sample.continuation.size(), 512U);
      EXPECT_TRUE(std::equal(sample.tokens.begin(), sample.tokens.end(),
                             tokens.begin() + static_cast<ptrdiff_t>(i * stride)));
      EXPECT_TRUE(std::equal(sample.continuation.begin(), sample.continuation.end(),
                             tokens.begin() + static_cast<ptrdiff_t>(i * stride + prompt)));
    }
  }
}

TEST_F(PerplexityTest, LengthsAreCutToTheContext) {
  options_.context = 2000;
  options_.tasks = {"continuation"};
  EXPECT_THAT(names(open_suite(kSuite, options_)), ElementsAre("continuation@1488"));
  options_.lengths = {600, 5000, 1488};
  options_.limit = 1;
  const auto tasks = open_suite(kSuite, options_);
  EXPECT_THAT(names(tasks), ElementsAre("continuation@600", "continuation@1488"));
  EXPECT_EQ(tasks[0]->size(), 1U);
  options_.context = 512;
  EXPECT_THAT(error(), HasSubstr("a context of 512 tokens leaves no prompt"));
}

TEST_F(PerplexityTest, OfTheUsualLengthsThoseOfTheTextAreUsed) {
  options_.tasks = {"continuation"};
  EXPECT_THAT(names(open_suite(kSuite, options_)), ElementsAre("continuation@2048"));
  options_.lengths = {8192};
  EXPECT_THAT(error(), HasSubstr("'continuation@8192' needs 8704"));
  options_.lengths = {1};
  EXPECT_THAT(error(), HasSubstr("a prompt of 1 tokens is too short"));
}

TEST_F(PerplexityTest, PerplexityIsOverAllTokens) {
  options_.lengths = {600};
  const auto tasks = open_suite(kSuite, options_);
  const Sample sample = tasks[0]->sample(0);
  const std::vector<Scores> scores = {tasks[0]->score(sample, test::loss_answer({1, 3})),
                                      tasks[0]->score(sample, test::loss_answer({0.5}))};
  EXPECT_DOUBLE_EQ(figure(scores[0], "nll"), 2);
  const Scores summary = kSuite.summarize("continuation@600", scores);
  EXPECT_EQ(summary[0].first, "perplexity");
  EXPECT_DOUBLE_EQ(summary[0].second, std::exp(1.5));
  EXPECT_DOUBLE_EQ(figure(summary, "nll"), 1.5);
}

TEST_F(PerplexityTest, TextsMustBeThereAndBeText) {
  std::ofstream(options_.data) << "text \xff";
  EXPECT_THAT(error(), HasSubstr("is not UTF-8: byte 0x"));
  options_.data = folder_.file("");
  EXPECT_THAT(open_suite(kSuite, options_), IsEmpty());
  options_.tasks = {"sliding"};
  EXPECT_THAT(error(), HasSubstr("no perplexity/wikitext2_test_tokenized.txt"));
  options_.tasks = {"slide"};
  EXPECT_THAT(error(), HasSubstr("no task 'slide'; known: continuation, sliding"));
}

TEST_F(PerplexityTest, ReadsWikiText) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  options_.data = data;
  options_.tasks = {"continuation"};
  options_.limit = 2;
  const auto tasks = open_suite(kSuite, options_);
  EXPECT_THAT(names(tasks),
              ElementsAre("continuation@2048", "continuation@8192", "continuation@32768"));
  EXPECT_THAT(tokenizer_.decode(tasks[0]->sample(0).tokens), HasSubstr("Robert <unk>"));
}

}  // namespace
}  // namespace restkv::eval
