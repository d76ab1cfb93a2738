#include "eval/suites/multiple_choice/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/multiple_choice/choice_tokens.h"
#include "eval/suites/suite_fixture.h"
#include "restkv/error.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using restkv::testing::TemporaryFolder;
using test::choice_answer;
using test::figure;
using test::names;
using test::open_suite;
using test::open_task;
using test::suite_data;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Suite suite_of(std::string_view name) {
  return name == "anli" ? anli_suite() : name == "glue" ? glue_suite() : superglue_suite();
}

/// What the harness asks: context and choices, and the position of the right one.
struct Asked {
  std::string suite, task;
  size_t index = 0;
  std::string context;
  std::vector<std::string> choices;
  size_t gold = 0;
};

TEST(MultipleChoice, AsksAsTheHarnessDoes) {
  const std::vector<Asked> expected = {
      {"anli",
       "anli_r1",
       0,
       "The lake froze in December.\nQuestion: The lake froze in winter. True, False, or "
       "Neither?\nAnswer:",
       {" True", " Neither", " False"},
       0},
      {"anli",
       "anli_r1_dev",
       1,
       "It is raining.\nQuestion: It is dry. True, False, or Neither?\nAnswer:",
       {" True", " Neither", " False"},
       2},
      {"glue",
       "cola",
       1,
       "The cat sat mat on the.\nQuestion: Does this sentence make sense?\nAnswer:",
       {" no", " yes"},
       0},
      {"glue",
       "sst2",
       0,
       "a warm and funny film\nQuestion: Is this sentence positive or negative?\nAnswer:",
       {" negative", " positive"},
       1},
      {"glue",
       "mnli",
       0,
       "Owls hunt at night. \nQuestion: Owls sleep at night. True, False or Neither?\nAnswer:",
       {" True", " Neither", " False"},
       2},
      {"glue",
       "mnli",
       1,
       "Bees dance.\nQuestion: Bees move. True, False or Neither?\nAnswer:",
       {" True", " Neither", " False"},
       0},
      {"glue",
       "mrpc",
       0,
       "Sentence 1: Sales rose.\nSentence 2: Sales went up.\nQuestion: Do both sentences mean the "
       "same thing?\nAnswer:",
       {" no", " yes"},
       1},
      {"glue",
       "qnli",
       0,
       "Who sat?\nThe cat sat.\nQuestion: Does this response answer the question?\nAnswer:",
       {" yes", " no"},
       0},
      {"glue",
       "qqp",
       0,
       "Question 1: How old is he?\nQuestion 2: What is his age?\nQuestion: Do both questions ask "
       "the same thing?\nAnswer:",
       {" no", " yes"},
       1},
      {"glue",
       "rte",
       0,
       "It froze.\nQuestion: It was cold. True or False?\nAnswer:",
       {" True", " False"},
       0},
      {"glue",
       "wnli",
       0,
       "I put the cake away in the fridge. It has a lot of butter in it.\nQuestion: The cake has a "
       "lot of butter in it. True or False?\nAnswer:",
       {" False", " True"},
       1},
      {"superglue",
       "boolq",
       0,
       "Owls -- Most owls hunt at night and sleep in the daytime.\nQuestion: do owls sleep in the "
       "daytime?\nAnswer:",
       {" no", " yes"},
       1},
      {"superglue",
       "cb",
       0,
       "B: I do not think it froze.\nQuestion: it froze. True, False, or Neither?\nAnswer:",
       {" True", " False", " Neither"},
       1},
      {"superglue",
       "cb",
       1,
       "It may freeze.\nQuestion: it froze. True, False, or Neither?\nAnswer:",
       {" True", " False", " Neither"},
       2},
      {"superglue",
       "copa",
       0,
       "The pond froze over because",
       {"  \u00e9lan was lost.", "  the night was cold."},
       1},
      {"superglue", "copa", 1, "Ada dropped the cup therefore", {"  it broke.", "  it sang."}, 0},
      {"superglue",
       "multirc",
       0,
       "Lars lives in Dunmere. He keeps bees.\nQuestion: What does Lars keep?\nAnswer:",
       {" Bees\nIs the answer correct? yes", " Bees\nIs the answer correct? no"},
       1},
      {"superglue",
       "multirc",
       1,
       "Lars lives in Dunmere. He keeps bees.\nQuestion: What does Lars keep?\nAnswer:",
       {" Owls\nIs the answer correct? yes", " Owls\nIs the answer correct? no"},
       0},
      {"superglue",
       "multirc",
       2,
       "Lars lives in Dunmere. He keeps bees.\nQuestion: Where does he live?\nAnswer:",
       {" Dunmere\nIs the answer correct? yes", " Dunmere\nIs the answer correct? no"},
       1},
      {"superglue",
       "sglue_rte",
       1,
       "It froze.\nQuestion: It was hot. True or False?\nAnswer:",
       {" True", " False"},
       1},
      {"superglue",
       "wic",
       0,
       "Sentence 1: The \u201ccaf\u00e9\u201d was full.\nSentence 2: Meet me at the "
       "caf\u00e9.\nQuestion: Is the word 'caf\u00e9' used in the same way in the two sentences "
       "above?\nAnswer:",
       {" no", " yes"},
       1},
      {"superglue",
       "wsc",
       0,
       "Passage: The owl didn't see the mouse, because *it* (the owl) slept.\nQuestion: In the "
       "passage above, does the pronoun \"*it*\" refer to \"*The owl*\"?\nAnswer:",
       {" no", " yes"},
       1},
  };
  for (const Asked& asked : expected) {
    const Sample sample = open_task(suite_of(asked.suite), asked.task)->sample(asked.index);
    EXPECT_EQ(sample.mode, SampleMode::kChoose);
    EXPECT_EQ(sample.prompt, asked.context);
    EXPECT_EQ(sample.choices, asked.choices) << asked.task;
    EXPECT_EQ(sample.reference.at("gold"), asked.gold) << asked.task << " " << asked.index;
    EXPECT_TRUE(sample.always_raw);
  }
}

TEST(MultipleChoice, IdsAreThoseOfTheRecords) {
  EXPECT_EQ(open_task(anli_suite(), "anli_r1_dev")->sample(1).id, "d2");
  EXPECT_EQ(open_task(superglue_suite(), "multirc")->sample(2).id, "4-8-2");
  EXPECT_EQ(open_task(superglue_suite(), "cb")->sample(1).id, "1");
  EXPECT_EQ(open_task(glue_suite(), "cola")->sample(1).id, "line-2");
}

TEST(MultipleChoice, OpensWhatIsThere) {
  SuiteOptions options;
  options.data = suite_data();
  EXPECT_THAT(names(open_suite(anli_suite(), options)), ElementsAre("anli_r1", "anli_r1_dev"));
  EXPECT_THAT(names(open_suite(glue_suite(), options)),
              ElementsAre("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"));
  EXPECT_THAT(names(open_suite(superglue_suite(), options)),
              ElementsAre("boolq", "cb", "copa", "multirc", "sglue_rte", "wic", "wsc", "record"));
}

TEST(MultipleChoice, FindsFilesByTheirPublishersNames) {
  const TemporaryFolder folder;
  const fs::path root = folder.file("");
  fs::create_directories(root / "anli_v1.0/R1");
  fs::copy_file(suite_data() / "anli/test_r1.jsonl", root / "anli_v1.0/R1/test.jsonl");
  fs::create_directories(root / "CB");
  fs::copy_file(suite_data() / "superglue/CB/val.jsonl", root / "CB/val.jsonl");
  fs::create_directories(root / "glue/sst2");
  fs::copy_file(suite_data() / "glue/sst2_dev.jsonl", root / "glue/sst2/validation.jsonl");
  SuiteOptions options;
  options.data = root;
  EXPECT_THAT(names(open_suite(anli_suite(), options)), ElementsAre("anli_r1"));
  EXPECT_THAT(names(open_suite(superglue_suite(), options)), ElementsAre("cb"));
  EXPECT_THAT(names(open_suite(glue_suite(), options)), ElementsAre("sst2"));
}

/// Scores and figures of a task's samples where the choices `chosen` are the most likely.
Scores scores_of(const Suite& suite, std::string_view name, const std::vector<size_t>& chosen) {
  const auto task = open_task(suite, name);
  std::vector<Scores> scores;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const Sample sample = task->sample(i);
    Answer answer = choice_answer(std::vector<double>(sample.choices.size(), -9));
    answer.log_likelihoods.at(chosen[i]) = -1;
    answer.greedy.assign(sample.choices.size(), 0);
    scores.push_back(task->score(sample, answer));
  }
  return suite.summarize(name, scores);
}

TEST(MultipleChoice, SummarizesWithTheTasksMetrics) {
  EXPECT_EQ(scores_of(anli_suite(), "anli_r1_dev", {1, 0}), (Scores{{"acc", 50}}));
  EXPECT_EQ(scores_of(glue_suite(), "cola", {1, 0}), (Scores{{"mcc", 100}}));
  EXPECT_EQ(scores_of(glue_suite(), "cola", {0, 1}), (Scores{{"mcc", -100}}));
  EXPECT_EQ(scores_of(glue_suite(), "mrpc", {1}), (Scores{{"acc", 100}, {"f1", 100}}));
  // Classes 1 and 2 are right, class 0 has neither gold nor prediction and counts 0.
  const Scores cb = scores_of(superglue_suite(), "cb", {1, 2});
  EXPECT_EQ(figure(cb, "acc"), 100);
  EXPECT_NEAR(figure(cb, "f1"), 200.0 / 3, 1e-9);
}

TEST(MultipleChoice, RecordComparesEntities) {
  const auto task = open_task(superglue_suite(), "record");
  const Sample sample = task->sample(0);
  EXPECT_EQ(sample.id, "2-3");
  EXPECT_EQ(sample.prompt,
            "Dunmere News Lars Holm met Ada at Dunmere.\n\n  - Lars Holm visits Dunmere.\n  - Ada "
            "is surprised.\n");
  EXPECT_THAT(sample.choices, ElementsAre("   - Nobody had told Ada about the visit.",
                                          "   - Nobody had told Dunmere about the visit.",
                                          "   - Nobody had told Lars Holm about the visit."));
  EXPECT_EQ(task->score(sample, choice_answer({-1, -2, -3})), (Scores{{"f1", 1}, {"em", 1}}));
  EXPECT_EQ(task->score(sample, choice_answer({-2, -1, -1})), (Scores{{"f1", 0}, {"em", 0}}));
}

TEST(MultipleChoice, RefusesRecordsThatDoNotFit) {
  const auto reason = [](const Suite& suite, const std::string& file, const std::string& line) {
    const TemporaryFolder folder;
    const fs::path path = folder.file(file);
    fs::create_directories(path.parent_path());
    std::ofstream(path) << line;
    return test::reason_to_skip(suite, folder.path());
  };
  EXPECT_EQ(reason(anli_suite(), "anli/dev_r1.jsonl",
                   R"({"premise": "p", "hypothesis": "h", "label": "x"})"),
            "field 'label' must be 0 to 2 or one of e, n, c, not \"x\"");
  EXPECT_EQ(reason(glue_suite(), "glue/sst2_dev.jsonl", R"({"sentence": "s", "label": -1})"),
            "field 'label' must be 0 to 1, not -1");
  EXPECT_EQ(reason(glue_suite(), "glue/sst2_dev.jsonl", R"({"text": "s", "label": 1})"),
            "field 'sentence' is missing");
  EXPECT_THAT(reason(superglue_suite(), "superglue/COPA/val.jsonl",
                     R"({"premise": "p", "question": "why", "choice1": "a", "choice2": "b",)"
                     R"( "label": 0})"),
              HasSubstr("cause or effect, not 'why'"));
  EXPECT_THAT(reason(superglue_suite(), "superglue/WiC/val.jsonl",
                     R"({"sentence1": "abc", "sentence2": "abc", "start1": 2, "end1": 4,)"
                     R"( "label": true})"),
              HasSubstr("no place in a sentence of 3 characters"));
  EXPECT_THAT(reason(superglue_suite(), "superglue/WSC/val.jsonl",
                     R"({"text": "a b", "target": {"span1_text": "a", "span2_text": "b",)"
                     R"( "span2_index": 2}, "label": true})"),
              HasSubstr("'span2_index' is 2, but the text has 2 words"));
}

TEST(MultipleChoice, NamesRecordsThatAskNothing) {
  const TemporaryFolder folder;
  const auto reason = [&](const std::string& task, const std::string& line) {
    const fs::path path = folder.file("superglue/" + task + "/val.jsonl");
    fs::create_directories(path.parent_path());
    std::ofstream(path) << line;
    return test::reason_to_skip(superglue_suite(), folder.path(),
                                {task == "MultiRC" ? "multirc" : "record"});
  };
  EXPECT_EQ(reason("MultiRC", R"({"passage": {"text": "t", "questions": []}})"),
            "the record asks no question");
  EXPECT_EQ(
      reason("MultiRC",
             R"({"passage": {"text": "t", "questions": [{"question": "q", "answers": []}]}})"),
      "the record asks no question");
  const std::string passage = R"("passage": {"text": "Ada", "entities": [{"start": 0, "end": 2}]})";
  EXPECT_EQ(reason("ReCoRD", "{" + passage + R"(, "qas": []})"), "the record asks no question");
  EXPECT_EQ(
      reason("ReCoRD", "{" + passage + R"(, "qas": [{"query": "q", "answers": [{"text": " "}]}]})"),
      "field 'text' is empty");
}

TEST(FillFields, ReplacesInOnePass) {
  const Json fields = {{"a", "{{b}}"}, {"b", "x"}, {"n", 1}};
  EXPECT_EQ(fill_fields("{{a}}-{{b}}{{b}}", fields), "{{b}}-xx");
  EXPECT_EQ(fill_fields("no fields", fields), "no fields");
  EXPECT_THROW(fill_fields("{{c}}", fields), Error);
  EXPECT_THROW(fill_fields("{{n}}", fields), Error);
}

/// The whole development sets, and requests that the harness itself made of one of them.
TEST(MultipleChoice, ReadsThePublishedFiles) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  SuiteOptions options;
  options.data = data;
  const std::map<std::string, size_t> anli = {
      {"anli_r1_dev", 1000}, {"anli_r2_dev", 1000}, {"anli_r3_dev", 1198}};
  const std::map<std::string, size_t> glue = {{"cola", 1043}, {"sst2", 872}};
  const std::map<std::string, size_t> superglue = {{"boolq", 3270},   {"cb", 56},   {"copa", 100},
                                                   {"multirc", 4848}, {"wic", 638}, {"wsc", 104},
                                                   {"sglue_rte", 277}};
  const auto sizes = [&](const Suite& suite) {
    std::map<std::string, size_t> read;
    for (const auto& task : open_suite(suite, options)) {
      read[task->name()] = task->size();
      (void)task->sample(task->size() - 1);
    }
    return read;
  };
  EXPECT_EQ(sizes(anli_suite()), anli);
  EXPECT_EQ(sizes(glue_suite()), glue);
  EXPECT_EQ(sizes(superglue_suite()), superglue);

  const Tokenizer tokenizer(testing::test_model_path());
  options.tasks = {"anli_r1_dev"};
  const auto task = std::move(open_suite(anli_suite(), options).at(0));
  std::set<std::vector<int32_t>> ours;
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    for (const std::string& choice : sample.choices) {
      ChoiceTokens tokens = split_choice(tokenizer, sample.prompt, choice);
      tokens.context.insert(tokens.context.end(), tokens.continuation.begin(),
                            tokens.continuation.end());
      ours.insert(tokens.context);
    }
  }
  for (const Json& request :
       test::read_jsonl(fs::path(RESTKV_TEST_DATA_DIR) / "lm_eval/requests.jsonl")) {
    for (const auto& sent : request.at("body").at("prompt")) {
      EXPECT_TRUE(ours.contains(sent.get<std::vector<int32_t>>()));
    }
  }
}

/// ReCoRD's published training examples have the form of its validation file.
TEST(MultipleChoice, ReadsReCoRD) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const TemporaryFolder folder;
  fs::create_directories(folder.file("ReCoRD"));
  fs::copy_file(data / "superglue/ReCoRD/train.jsonl", folder.file("ReCoRD/val.jsonl"));
  SuiteOptions options;
  options.data = folder.file("");
  const auto tasks = open_suite(superglue_suite(), options);
  ASSERT_THAT(names(tasks), ElementsAre("record"));
  EXPECT_GE(tasks[0]->size(), 32U);
  for (size_t i = 0; i < tasks[0]->size(); ++i) {
    const Sample sample = tasks[0]->sample(i);
    const auto list = sample.reference.at("entities").get<std::vector<std::string>>();
    const std::set<std::string> entities(list.begin(), list.end());
    for (const std::string& answer :
         sample.reference.at("answers").get<std::vector<std::string>>()) {
      EXPECT_TRUE(entities.contains(answer)) << answer;
    }
  }
}

}  // namespace
}  // namespace restkv::eval
