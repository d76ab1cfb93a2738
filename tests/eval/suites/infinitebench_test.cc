#include "eval/suites/infinitebench/infinitebench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/suite_fixture.h"
#include "restkv/error.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using restkv::testing::TemporaryFolder;
using test::figure;
using test::names;
using test::open_suite;
using test::open_task;
using test::suite_data;
using test::text_answer;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

const Suite kSuite = infinitebench_suite();

TEST(InfiniteBenchSuite, FillsThePrompts) {
  const std::map<std::string, std::string> expected = {
      {"passkey",
       "There is an important info hidden inside a lot of irrelevant text. Find it and memorize "
       "it. I will quiz you about the important information.\n\nThe grass is green.\nThe pass key "
       "is 71019. Remember it. 71019 is the pass key.\n\n\nWhat is the pass key?\n\nThe pass key "
       "is"},
      {"kv_retrieval",
       "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON "
       "data:\n{\"a1\": \"b1\", \"a2\": \"b2\"}\n\n\nKey: \"a2\"\nThe value associated with the "
       "specified key is: "},
      {"longbook_choice_eng",
       "Read the book and answer the question.\n\nA long book about owls.\n\nQuestion: Who hunts "
       "at night?\nA. A bee\nB. A cat\nC. An owl\nD. A heron\n\nThe letter of the correct answer "
       "is"},
      {"longbook_qa_chn",
       "阅读以下书籍然后回答问题。\n\n一本关于猫头鹰的长书。\n\n问题：谁在夜里打猎？\n答案："},
      {"math_find",
       "What is the second largest number in the following list?\n\n[3, 9, 4]\n\nYou should answer "
       "with only one number, no other words. The second largest number of the list is: "},
      {"math_calc",
       "Let us calculate the intermediate values of an expression.\n\nExpression: 1 + 3 + 4\n"
       "Values: [1, 4, 8]\n\nExpression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\nExpression: 2 + 31 "
       "- 5\nValues:"},
      {"code_run",
       "There is a function called func_2 in the following Python code.\n\n\nHere is the content "
       "of functions_module.py:\n\ndef func_2(x):\n    return x - 2\n\n\n\nPlease compute the "
       "exact value of func_2(-4). The value of func_2(-4) is"},
      {"code_debug",
       "Following is a Python code where exactly one of the functions/methods has a deliberate "
       "error that makes it crash.\n\ndef a(): pass\ndef b(): 1 +\n\n\nOptions:\nA. a\nB. b\nC. "
       "c\nD. d\n\nThe correct option is:"}};
  for (const auto& [task, prompt] : expected) {
    EXPECT_EQ(open_task(kSuite, task)->sample(0).prompt, prompt);
  }
  EXPECT_THAT(open_task(kSuite, "math_find")->sample(1).prompt,
              StartsWith("What is the median number in the following list?"));
}

TEST(InfiniteBenchSuite, ScoresRightAnswers) {
  const std::map<std::string, std::string> right = {{"passkey", " 71019."},
                                                    {"number_string", "7781666555"},
                                                    {"kv_retrieval", "b2"},
                                                    {"longbook_sum_eng", "Owls."},
                                                    {"longbook_choice_eng", "C"},
                                                    {"longbook_qa_eng", "the owl"},
                                                    {"longbook_qa_chn", "猫头鹰。"},
                                                    {"math_find", "4"},
                                                    {"math_calc", "[33, 28]"},
                                                    {"code_run", "-6"},
                                                    {"code_debug", "B."},
                                                    {"longdialogue_qa_eng", "Sami"}};
  SuiteOptions options;
  options.data = suite_data();
  const auto tasks = open_suite(kSuite, options);
  ASSERT_THAT(tasks, SizeIs(12));
  for (const auto& task : tasks) {
    const Sample sample = task->sample(0);
    EXPECT_EQ(figure(task->score(sample, text_answer(right.at(task->name()))), "score"), 1)
        << task->name();
    EXPECT_EQ(figure(task->score(sample, text_answer("")), "score"), 0) << task->name();
    EXPECT_TRUE(sample.always_raw);
    EXPECT_GT(task->published_size(), 0U);
  }
}

TEST(InfiniteBenchSuite, ProfilesDifferInNewTokensAndScores) {
  const auto official = open_task(kSuite, "code_debug", "official");
  const auto restkv = open_task(kSuite, "code_debug", "restkv");
  EXPECT_EQ(official->score(official->sample(0), text_answer("B b"))[0].second, 0);
  EXPECT_EQ(restkv->score(restkv->sample(0), text_answer("B b"))[0].second, 1);
  EXPECT_EQ(open_task(kSuite, "passkey", "official")->sample(0).max_new_tokens, 6U);
  EXPECT_EQ(open_task(kSuite, "passkey", "restkv")->sample(0).max_new_tokens, 15U);
}

TEST(InfiniteBenchSuite, AnswersMustFitTheTask) {
  const TemporaryFolder folder;
  const auto reason = [&](const std::string& task, const Json& changes) {
    Json record = {{"id", 0},
                   {"context", "c"},
                   {"input", "i"},
                   {"answer", {"b"}},
                   {"options", {"a", "b", "c", "d"}}};
    for (const auto& [name, value] : changes.items()) record[name] = value;
    std::ofstream(folder.file(task + ".jsonl")) << record.dump() << "\n";
    return test::reason_to_skip(kSuite, folder.path(), {task});
  };
  EXPECT_EQ(reason("code_debug", Json::object()), "no error");
  EXPECT_EQ(reason("code_debug", {{"answer", {"b", "B"}}}), "no error");
  EXPECT_EQ(reason("code_debug", {{"answer", "e"}}), "field 'answer' is none of the options");
  EXPECT_EQ(reason("code_debug", {{"answer", 3}}), "field 'answer' is none of the options");
  EXPECT_EQ(reason("longbook_choice_eng", {{"options", {"a", "b"}}}),
            "field 'options' must have 4 texts, not 2");
  EXPECT_THAT(reason("code_run", {{"answer", 1}}), HasSubstr("field 'input' has no 'func_"));
  EXPECT_THAT(reason("math_find", {{"answer", 1}}), HasSubstr("field 'input' has no 'The .+ of'"));
  EXPECT_NE(reason("math_calc", {{"answer", "x"}}), "no error");
  EXPECT_NE(reason("passkey", {{"answer", Json::object()}}), "no error");
  EXPECT_EQ(reason("passkey", {{"answer", "71432"}}), "no error");
  EXPECT_EQ(reason("kv_retrieval", {{"answer", "a-b"}}), "no error");
  for (const Json& unusable :
       {Json(71432), Json("x"), Json(""), Json::array(), Json::array({""}), Json::array({1})}) {
    EXPECT_THAT(reason("passkey", {{"answer", unusable}}), HasSubstr("is not")) << unusable;
    EXPECT_THAT(reason("number_string", {{"answer", unusable}}), HasSubstr("is not")) << unusable;
    if (unusable == "x") continue;
    EXPECT_THAT(reason("kv_retrieval", {{"answer", unusable}}), HasSubstr("is not")) << unusable;
    EXPECT_THAT(reason("longdialogue_qa_eng", {{"answer", unusable}}), HasSubstr("is not"))
        << unusable;
    EXPECT_THAT(reason("longbook_qa_eng", {{"answer", unusable}}), HasSubstr("is not")) << unusable;
    EXPECT_THAT(reason("longbook_sum_eng", {{"answer", unusable}}), HasSubstr("is not"))
        << unusable;
  }
  EXPECT_THAT(reason("longbook_qa_eng", {{"answer", {"a", 1}}}),
              HasSubstr("is not a text or a list"));
  EXPECT_THAT(reason("code_run", {{"input", "func_1(2)"}, {"answer", "x"}}),
              HasSubstr("is not a whole number"));
  EXPECT_THAT(reason("math_calc", {{"answer", {1, "x"}}}), HasSubstr("a list of whole numbers"));
  EXPECT_THAT(reason("code_debug", {{"answer", {"b", "a"}}}), HasSubstr("and its letter"));
  EXPECT_THAT(reason("longbook_choice_eng", {{"answer", {"", "B"}}}), HasSubstr("is not"));
}

class GeneratedInfiniteBench : public ::testing::Test {
 protected:
  GeneratedInfiniteBench() { options_.tokenizer = &tokenizer_; }

  Tokenizer tokenizer_{testing::test_model_path()};
  SuiteOptions options_;
};

TEST_F(GeneratedInfiniteBench, TasksAreAsLongAsAskedFor) {
  options_.lengths = {600, 1500};
  options_.limit = 3;
  options_.data = suite_data();  // has files: lengths ask for generated records all the same
  options_.tasks = {"passkey", "kv_retrieval", "math_find", "math_calc", "code_run"};
  const auto tasks = open_suite(kSuite, options_);
  ASSERT_THAT(tasks, SizeIs(10));
  for (const auto& task : tasks) {
    const size_t length = task->name().ends_with("@600") ? 600 : 1500;
    ASSERT_EQ(task->size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      const Sample sample = task->sample(i);
      EXPECT_EQ(sample.length, length);
      const size_t tokens =
          tokenizer_.encode(sample.prompt, true, false).size() + sample.max_new_tokens;
      EXPECT_GT(tokens, length * 3 / 4) << task->name();
      EXPECT_LE(tokens, length) << task->name();
      EXPECT_EQ(task->sample(i).prompt, sample.prompt);
    }
    EXPECT_THAT(task->notes(), ElementsAre(HasSubstr("generated: ")));
  }
  const Sample passkey = tasks[0]->sample(1);
  const auto digits = passkey.reference.at("label").get<std::string>();
  EXPECT_THAT(passkey.prompt, HasSubstr("The pass key is " + digits));
  EXPECT_THAT(passkey.prompt, EndsWith("The pass key is"));
  EXPECT_EQ(figure(tasks[0]->score(passkey, text_answer(digits)), "score"), 1);
  options_.lengths = {20};
  EXPECT_THROW(open_suite(kSuite, options_), Error);
}

TEST_F(GeneratedInfiniteBench, StandInForMissingFilesWithinTheContext) {
  options_.context = 2048;
  options_.limit = 2;
  const auto tasks = open_suite(kSuite, options_);
  EXPECT_THAT(names(tasks), ElementsAre("passkey", "number_string", "kv_retrieval", "code_run",
                                        "math_find", "math_calc"));
  for (const auto& task : tasks) {
    const Sample sample = task->sample(0);
    EXPECT_LE(tokenizer_.encode(sample.prompt, true, false).size() + sample.max_new_tokens, 2048U);
    EXPECT_EQ(sample.length, std::nullopt);
  }
  options_.tasks = {"longbook_qa_eng"};
  EXPECT_THROW(open_suite(kSuite, options_), Error);
}

TEST_F(GeneratedInfiniteBench, HaveThePublishedSizeWithoutALimit) {
  options_.tasks = {"passkey"};
  const auto tasks = open_suite(kSuite, options_);
  EXPECT_EQ(tasks[0]->size(), 590U);
  EXPECT_THAT(tasks[0]->notes(), ElementsAre(HasSubstr("5220 noise lines (published: 5220)")));
}

/// Records of the published generators.
TEST(InfiniteBenchSuite, ReadsThePublishedRecords) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const TemporaryFolder folder;
  const fs::path generated = data / "infinitebench/generated";
  const std::map<std::string, std::string> files = {
      {"passkey", "passkey_8k"},        {"number_string", "number_string_128k"},
      {"kv_retrieval", "kv_retrieval"}, {"math_find", "math_find"},
      {"math_calc", "math_calc"},       {"code_run", "code_run"}};
  for (const auto& [task, file] : files) {
    fs::create_symlink(generated / (file + ".jsonl"), folder.file(task + ".jsonl"));
  }
  SuiteOptions options;
  options.data = folder.file("");
  const auto tasks = open_suite(kSuite, options);
  EXPECT_EQ(tasks.size(), files.size());
  for (const auto& task : tasks) {
    const auto records = test::read_jsonl(generated / (files.at(task->name()) + ".jsonl"));
    ASSERT_EQ(task->size(), records.size());
    for (size_t i = 0; i < records.size(); ++i) {
      const Sample sample = task->sample(i);
      EXPECT_THAT(sample.prompt, HasSubstr(records[i].at("context").get<std::string>()));
      EXPECT_EQ(sample.reference.at("label"), records[i].at("answer"));
      const Json& label = records[i].at("answer");
      const std::string right = label.is_string() ? label.get<std::string>() : label.dump();
      EXPECT_EQ(figure(task->score(sample, text_answer(right)), "score"), 1) << task->name();
    }
  }
}

}  // namespace
}  // namespace restkv::eval
