#include "eval/suites/code/code_completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "eval/suites/code_test_data.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

const Tokenizer& tokenizer() {
  static const Tokenizer kTokenizer(testing::test_model_path());
  return kTokenizer;
}

SuiteOptions options_for(const std::filesystem::path& folder, std::vector<size_t> lengths) {
  SuiteOptions options;
  options.tokenizer = &tokenizer();
  options.data = folder;
  options.lengths = std::move(lengths);
  return options;
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options) {
  std::vector<SkippedLine> skipped;
  return code_completion_suite().open(options, skipped);
}

void check_contexts(const SuiteOptions& options) {
  const auto tasks = open(options);
  ASSERT_EQ(tasks.size(), 2U);
  for (const auto& task : tasks) {
    const auto records = test::read_jsonl(options.data / "longbench" / (task->name() + ".jsonl"));
    const size_t count = task->size() / options.lengths.size();
    for (size_t i = 0; i < task->size(); ++i) {
      const auto context = records[i % count].at("context").get<std::string>();
      const size_t length = options.lengths[i / count];
      const Sample sample = task->sample(i);
      EXPECT_EQ(sample.length, length);
      EXPECT_TRUE(sample.always_raw);
      const size_t own = sample.prompt.rfind(context);
      ASSERT_NE(own, std::string::npos);
      EXPECT_EQ(sample.prompt.find(context), own) << "the record twice";
      if (length == 0) {
        EXPECT_THAT(sample.prompt, Not(HasSubstr("# file: ")));
      } else if (sample.reference.at("context_tokens") != 0) {
        EXPECT_LE(tokenizer().encode(sample.prompt, true, false).size() + 64, length);
        EXPECT_THAT(sample.prompt, HasSubstr("# file: current\n" + context));
      }
    }
  }
}

TEST(CodeCompletion, ContextsAreOtherFiles) {
  const test::CodeData data;
  SuiteOptions options = options_for(data.folder(), {0, 2048, 8192});
  options.limit = 12;
  check_contexts(options);
}

TEST(CodeCompletion, ContextsOfPublishedFilesAreOtherFiles) {
  RESTKV_FOLDER_OR_SKIP(folder, "RESTKV_DATA_DIR");
  SuiteOptions options = options_for(folder, {0, 16384, 131072});
  options.limit = 10;
  check_contexts(options);
}

TEST(CodeCompletion, LengthZeroIsLongBenchsPrompt) {
  const test::CodeData data;
  const auto records = test::read_jsonl(data.folder() / "longbench" / "lcc.jsonl");
  const auto tasks = open(options_for(data.folder(), {0}));
  ASSERT_EQ(tasks.size(), 2U);
  EXPECT_EQ(tasks[0]->sample(3).prompt, "Please complete the code given below. \n" +
                                            records[3].at("context").get<std::string>() +
                                            "Next line of code:\n");
  EXPECT_EQ(tasks[0]->sample(3).max_new_tokens, 64U);
}

TEST(CodeCompletion, ScoresAreEditSimilarities) {
  const test::CodeData data;
  const auto tasks = open(options_for(data.folder(), {0}));
  const Sample sample = tasks[1]->sample(3);
  Answer answer;
  answer.text = "    result_3 = 1\nmore";
  EXPECT_THAT(tasks[1]->score(sample, answer), ElementsAre(Pair("code_sim", 1.0)));
  answer.text = "    result_3 = 2";
  const Scores scores = tasks[1]->score(sample, answer);
  EXPECT_NEAR(scores.at(0).second, 2 * 15.0 / 32, 0.01);
}

TEST(CodeCompletion, SaysWhatIsMissing) {
  const testing::TemporaryFolder empty;
  EXPECT_TRUE(open(options_for(empty.path(), {0})).empty());
  SuiteOptions options = options_for(empty.path(), {0});
  options.tasks = {"lcc"};
  EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInput, [&] { (void)open(options); }),
              HasSubstr("longbench/lcc.jsonl"));
  const test::CodeData data(2);
  EXPECT_THROW((void)open(options_for(data.folder(), {100000})).at(0)->sample(0), Error);
}

}  // namespace
}  // namespace restkv::eval
