#include "eval/suites/multiple_choice/few_shot.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/suite_fixture.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using restkv::testing::TemporaryFolder;
using test::open_suite;
using test::suite_data;
using ::testing::HasSubstr;

/// Questions of CoLA that a test can tell apart: "Sentence i." is right if i is odd.
std::string cola(size_t count) {
  std::string lines;
  for (size_t i = 0; i < count; ++i) {
    lines += Json{{"sentence", fmt::format("Sentence {}.", i)}, {"label", i % 2}}.dump() + "\n";
  }
  return lines;
}

std::string asked(size_t i) {
  return fmt::format("Sentence {}.\nQuestion: Does this sentence make sense?\nAnswer:", i);
}

class FewShotTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& content) const {
    const fs::path path = folder_.file(name);
    fs::create_directories(path.parent_path());
    std::ofstream(path) << content;
  }
  [[nodiscard]] std::unique_ptr<Task> open(const Suite& suite, const std::string& task) const {
    SuiteOptions options = options_;
    options.data = folder_.file("");
    options.tasks = {task};
    return std::move(open_suite(suite, options).at(0));
  }

  TemporaryFolder folder_;
  SuiteOptions options_;
};

TEST_F(FewShotTest, PutsAllOthersBeforeAQuestionOfItsOwnFile) {
  write("glue/cola_dev.jsonl", cola(4));
  options_.shots = 3;
  const auto task = open(glue_suite(), "cola");
  ASSERT_EQ(task->size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    const Sample sample = task->sample(i);
    EXPECT_TRUE(sample.prompt.ends_with("\n\n" + asked(i)));
    size_t length = asked(i).size();
    for (size_t other = 0; other < 4; ++other) {
      if (other == i) continue;
      const std::string example = asked(other) + (other % 2 == 1 ? " yes" : " no") + "\n\n";
      EXPECT_THAT(sample.prompt, HasSubstr(example));
      length += example.size();
    }
    EXPECT_EQ(sample.prompt.size(), length) << "nothing else stands there";
    EXPECT_EQ(sample.id, fmt::format("line-{}", i + 1));
  }
  EXPECT_THAT(task->notes().at(0), HasSubstr("3 of 4 examples from cola_dev.jsonl"));
  EXPECT_EQ(task->files().size(), 1U);
}

TEST_F(FewShotTest, DrawsAnewForEveryQuestionByTheSeed) {
  write("glue/cola_dev.jsonl", cola(40));
  options_.shots = 2;
  const auto first = [&] { return open(glue_suite(), "cola")->sample(0).prompt; };
  const std::string prompt = first();
  EXPECT_EQ(first(), prompt);
  options_.limit = 1;
  EXPECT_EQ(first(), prompt) << "the limit is one of questions, not of examples";
  options_.limit = 0;
  const auto task = open(glue_suite(), "cola");
  std::set<std::string> beginnings;
  for (size_t i = 0; i < task->size(); ++i) {
    const std::string examples = task->sample(i).prompt;
    beginnings.insert(examples.substr(0, examples.find('\n')));
  }
  EXPECT_GT(beginnings.size(), 10U);
  options_.seed = 7;
  EXPECT_NE(first(), prompt);
}

TEST_F(FewShotTest, TakesSuperGluesExamplesFromTheirFile) {
  fs::create_directories(folder_.file("superglue"));
  fs::copy(suite_data() / "superglue", folder_.file("superglue"), fs::copy_options::recursive);
  options_.shots = 1;
  EXPECT_THAT(
      restkv::testing::refusal(ErrorCode::kInput, [&] { (void)open(superglue_suite(), "cb"); }),
      HasSubstr("there is no superglue/CB/train32.jsonl"));
  write("superglue/CB/train32.jsonl",
        R"({"premise": "It thawed.", "hypothesis": "it froze", "label": "contradiction"})");
  const auto task = open(superglue_suite(), "cb");
  const std::string prompt = task->sample(0).prompt;
  EXPECT_TRUE(prompt.starts_with(
      "It thawed.\nQuestion: it froze. True, False, or Neither?\nAnswer: False\n\nB: I do not "))
      << prompt;
  EXPECT_EQ(task->files().size(), 2U);

  fs::copy_file(suite_data() / "superglue/ReCoRD/val.jsonl",
                folder_.file("superglue/ReCoRD/train.jsonl"));
  EXPECT_THAT(open(superglue_suite(), "record")->sample(0).prompt,
              HasSubstr("  - Ada is surprised.\n   - Nobody had told Ada about the visit.\n\n"));
}

TEST_F(FewShotTest, RefusesMoreThanThereAre) {
  write("glue/cola_dev.jsonl", cola(4));
  options_.shots = 4;
  // A question cannot be its own example.
  EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInvalidArgument,
                                       [&] { (void)open(glue_suite(), "cola"); }),
              HasSubstr("cola has 3 examples, but 4 are asked for"));
}

/// FewGLUE's examples have the form of the validation files.
TEST_F(FewShotTest, ReadsThePublishedExamples) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  fs::create_directory_symlink(data / "superglue", folder_.file("superglue"));
  options_.shots = 32;
  options_.limit = 1;
  for (const char* task : {"boolq", "cb", "copa", "multirc", "sglue_rte", "wic", "wsc"}) {
    const std::string prompt = open(superglue_suite(), task)->sample(0).prompt;
    EXPECT_GT(prompt.size(), 2000U) << task;
  }
}

}  // namespace
}  // namespace restkv::eval
