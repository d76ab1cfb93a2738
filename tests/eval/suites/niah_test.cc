#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "eval/suite.h"
#include "eval/suites/benchmark_data.h"
#include "restkv/error.h"
#include "restkv/tokenizer.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kHead = "<|im_start|> This is a very long story book: <book> ";
constexpr std::string_view kTail =
    " </book>.\n Based on the content of the book, Question: The best thing to do in San Francisco "
    "is: \nAnswer:";
constexpr std::string_view kNeedle =
    "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny "
    "day.\n";

const Tokenizer& tokenizer() {
  static const Tokenizer kTokenizer(testing::test_model_path());
  return kTokenizer;
}

std::unique_ptr<Task> open(SuiteOptions options) {
  options.tokenizer = &tokenizer();
  std::vector<SkippedLine> skipped;
  auto tasks = find_suite("niah").open(options, skipped);
  EXPECT_EQ(tasks.size(), 1U);
  return std::move(tasks.at(0));
}

/// The context without its needle, and where that stood.
struct Found {
  std::string before, after;
};

Found take_apart(const Sample& sample) {
  std::string_view text = sample.prompt;
  EXPECT_TRUE(text.starts_with(kHead));
  EXPECT_TRUE(text.ends_with(kTail));
  text.remove_prefix(kHead.size());
  text.remove_suffix(kTail.size());
  const size_t needle = text.find(kNeedle);
  EXPECT_NE(needle, std::string_view::npos);
  EXPECT_EQ(text.find(kNeedle, needle + 1), std::string_view::npos);
  return {std::string(text.substr(0, needle)), std::string(text.substr(needle + kNeedle.size()))};
}

size_t count_tokens(std::string_view text) { return tokenizer().encode(text, false, false).size(); }

void expect_grid(const Task& task, size_t length) {
  std::string haystack;
  for (size_t i = 0; i < task.size(); ++i) {
    const Sample sample = task.sample(i);
    EXPECT_EQ(sample.length, length);
    const double depth = sample.depth.value();
    const Found found = take_apart(sample);
    const size_t before = count_tokens(found.before);
    const size_t after = count_tokens(found.after);
    const size_t needle = count_tokens(kNeedle);
    // Tokens at the seams may be cut otherwise when the text is encoded again.
    EXPECT_NEAR(static_cast<double>(before + needle + after), static_cast<double>(length - 200), 3);
    if (depth == 1) {
      EXPECT_EQ(found.after, "");
    } else {
      EXPECT_TRUE(found.before.empty() || found.before.ends_with('.')) << found.before;
      const double wanted = depth * static_cast<double>(before + after);
      EXPECT_LE(static_cast<double>(before), wanted + 1);
      EXPECT_GT(static_cast<double>(before) + 150, wanted) << "the nearest full stop before it";
    }
    if (i == 0) haystack = found.before + found.after;
    EXPECT_EQ(found.before + found.after, haystack) << "the same text at every depth";
  }
}

TEST(Niah, NeedlesStandAfterSentencesAtTenDepths) {
  SuiteOptions options;
  options.lengths = {1000};
  const auto task = open(options);
  ASSERT_EQ(task->size(), 10U);
  EXPECT_THAT(task->notes(), Contains(HasSubstr("generated stories (project-defined)")));
  std::vector<double> depths;
  for (size_t i = 0; i < 10; ++i) depths.push_back(task->sample(i).depth.value());
  EXPECT_THAT(depths, ElementsAre(0, 0.11, 0.22, 0.33, 0.44, 0.56, 0.67, 0.78, 0.89, 1));
  EXPECT_EQ(task->sample(1).id, "1000_11");
  expect_grid(*task, 1000);

  const Sample sample = task->sample(0);
  EXPECT_TRUE(sample.always_raw);
  EXPECT_TRUE(sample.stop_at_newline_token);
  EXPECT_EQ(sample.max_new_tokens, 30U);
}

TEST(Niah, EssaysAreUsedWhereTheyAre) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  SuiteOptions options;
  options.data = data;
  options.lengths = {1400};
  const auto task = open(options);
  EXPECT_EQ(task->files().size(), 50U) << "49 essays and their sentences";
  EXPECT_TRUE(take_apart(task->sample(9)).before.starts_with("July 2010What hard liquor"));
  expect_grid(*task, 1400);
}

TEST(Niah, ThePublishedGridIsCutToTheModel) {
  SuiteOptions options;
  options.context = 1450;
  const auto task = open(options);
  EXPECT_EQ(task->size(), 30U);  // 1000, 1200, 1400
  EXPECT_EQ(task->sample(29).id, "1400_100");
  options.limit = 6;
  const auto some = open(options);
  std::set<size_t> lengths;
  std::set<double> depths;
  for (size_t i = 0; i < some->size(); ++i) {
    lengths.insert(some->sample(i).length.value());
    depths.insert(some->sample(i).depth.value());
  }
  EXPECT_EQ(some->size(), 6U);
  EXPECT_EQ(lengths.size(), 3U) << "a subset is spread over the grid";
  EXPECT_EQ(some->published_size(), 1560U);
}

TEST(Niah, AnswersAreScoredByWordsInCommon) {
  SuiteOptions options;
  options.lengths = {1000};
  const auto task = open(options);
  const Sample sample = task->sample(0);
  Answer answer;
  answer.text = " eat a sandwich and sit in Dolores Park on a sunny day.";
  const Scores perfect = task->score(sample, answer);
  EXPECT_EQ(perfect.at(0), (std::pair<std::string, double>("overlap", 1)));
  EXPECT_EQ(perfect.at(1).first, "rouge1");
  EXPECT_NEAR(perfect.at(1).second, 0.727, 0.001);
  answer.text = "";
  EXPECT_EQ(task->score(sample, answer), (Scores{{"overlap", 0}, {"rouge1", 0}}));
}

TEST(Niah, BadOptionsAreNamed) {
  const auto message = [](const SuiteOptions& options) -> std::string {
    try {
      open(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "nothing was thrown";
  };
  SuiteOptions options;
  options.lengths = {1000, 200};
  EXPECT_THAT(message(options), HasSubstr("200 tokens"));
  options.lengths = {};
  options.context = 512;
  EXPECT_THAT(message(options), HasSubstr("lengths 512"));
  options.context = 0;
  options.lengths = {1000};
  options.profile = "official";
  EXPECT_THAT(message(options), HasSubstr("official"));
}

}  // namespace
}  // namespace restkv::eval
