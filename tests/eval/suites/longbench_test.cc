#include "eval/suites/longbench/longbench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "base/json.h"
#include "eval/suites/benchmark_data.h"
#include "eval/suites/longbench/metrics.h"
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
using test::open_task;
using test::suite_data;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const Suite kSuite = longbench_suite();

std::string error_of(const SuiteOptions& options) {
  std::vector<SkippedLine> skipped;
  return restkv::testing::refusal_if_any([&] { (void)kSuite.open(options, skipped); });
}

TEST(LongBenchSuite, OpensAllDatasetsThatAreThere) {
  SuiteOptions options;
  options.data = suite_data();
  const auto tasks = open_suite(kSuite, options);
  std::vector<std::string> listed;
  std::set<std::string> categories;
  for (const TaskInfo& info : kSuite.tasks()) {
    listed.push_back(info.name);
    categories.insert(info.category);
    EXPECT_EQ(info.file, "longbench/" + info.name + ".jsonl");
    EXPECT_THAT(info.source, HasSubstr("https://"));
  }
  EXPECT_THAT(listed, SizeIs(16));
  EXPECT_THAT(categories, SizeIs(6));
  EXPECT_EQ(names(tasks), listed);
}

TEST(LongBenchSuite, FillsEachFieldOnceAndAsItIs) {
  const Sample sample = open_task(kSuite, "narrativeqa")->sample(0);
  EXPECT_EQ(sample.id, "narrativeqa-0");
  EXPECT_EQ(sample.prompt,
            "You are given a story, which can be either a novel or a movie script, and a question. "
            "Answer the question asconcisely as you can, using a single phrase if possible. Do not "
            "provide any explanation.\n\nStory: The ferry to Brightwater left at noon. Ines had "
            "forgotten her umbrella, and the rain {context} began near the lighthouse.\n\nNow, "
            "answer the question based on the story asconcisely as you can, using a single phrase "
            "if possible. Do not provide any explanation.\n\nQuestion: What had Ines forgotten?\n\n"
            "Answer:");
  EXPECT_EQ(sample.max_new_tokens, 128U);
}

TEST(LongBenchSuite, ProfilesDifferInChatTemplateAndStops) {
  const auto sample = [](std::string_view task, std::string_view profile) {
    return open_task(kSuite, task, profile)->sample(0);
  };
  EXPECT_FALSE(sample("hotpotqa", "official").always_raw);
  EXPECT_EQ(sample("hotpotqa", "official").min_new_tokens, 0U);
  EXPECT_TRUE(sample("hotpotqa", "restkv").always_raw);
  EXPECT_EQ(sample("hotpotqa", "restkv").min_new_tokens, 1U);
  for (const char* task : {"trec", "triviaqa", "samsum", "lcc", "repobench-p"}) {
    EXPECT_TRUE(sample(task, "official").always_raw) << task;
    EXPECT_EQ(sample(task, "official").stop_at_newline_token, std::string(task) == "samsum");
    EXPECT_FALSE(sample(task, "restkv").stop_at_newline_token) << task;
  }
  EXPECT_EQ(sample("samsum", "official").min_new_tokens, 1U);
}

TEST(LongBenchSuite, ScoresWithTheDatasetsMetric) {
  const auto trec = open_task(kSuite, "trec");
  ASSERT_EQ(trec->size(), 2U);
  EXPECT_EQ(trec->published_size(), 200U);
  Answer answer;
  answer.text = "\nNumber of something\nDate";
  EXPECT_EQ(figure(trec->score(trec->sample(0), answer), "classification"), 1);
  answer.text = "Date or Number of something";
  EXPECT_EQ(figure(trec->score(trec->sample(0), answer), "classification"), 0.5);
  const auto retrieval = open_task(kSuite, "passage_retrieval_en");
  answer.text = "Paragraph 2";
  EXPECT_EQ(figure(retrieval->score(retrieval->sample(0), answer), "retrieval"), 1);
  const auto code = open_task(kSuite, "lcc");
  answer.text = "    return 3 * x\n    # done";
  EXPECT_EQ(figure(code->score(code->sample(0), answer), "code_sim"), 1);
}

TEST(LongBenchSuite, SummarizesByLengthBin) {
  const auto sample = [](double score, double length) {
    return Scores{{"qa_f1", score}, {"length", length}};
  };
  const std::vector<Scores> samples = {sample(1, 100), sample(0, 3999), sample(0, 4000),
                                       sample(1.0 / 3, 7999), sample(1, 8000)};
  const Scores scores = kSuite.summarize("hotpotqa", samples);
  EXPECT_EQ(
      scores,
      (Scores{{"qa_f1", 46.67}, {"qa_f1 0-4k", 50}, {"qa_f1 4-8k", 16.67}, {"qa_f1 8k+", 100}}));
  EXPECT_THAT(kSuite.summarize("hotpotqa", std::span(samples).first(1)), SizeIs(2));
}

TEST(LongBenchSuite, ReportsMalformedRecordsAndUsesTheRest) {
  const TemporaryFolder folder;
  const std::string good =
      R"({"input": "q", "context": "c", "answers": ["Paragraph 3"], "length": 3, "_id": "x"})";
  std::ofstream(folder.file("passage_retrieval_en.jsonl"))
      << good << "\n"
      << "not json\n"
      << R"({"input": "q", "context": "c", "answers": "Paragraph 3", "length": 3})"
      << "\n"
      << R"({"input": "q", "context": "c", "answers": ["third"], "length": 3})"
      << "\n"
      << R"({"input": "q", "answers": ["Paragraph 3"], "length": 3})"
      << "\n"
      << R"({"input": "q", "context": "c", "answers": ["Paragraph 3"], "length": -3})"
      << "\n"
      << good << "\n";
  SuiteOptions options;
  options.data = folder.file("");
  std::vector<SkippedLine> skipped;
  const auto tasks = kSuite.open(options, skipped);
  ASSERT_THAT(tasks, SizeIs(1));
  ASSERT_EQ(tasks[0]->size(), 2U);
  EXPECT_EQ(tasks[0]->sample(0).id, "x");
  EXPECT_EQ(tasks[0]->sample(1).id, "x#7");  // ids are unique
  EXPECT_EQ(tasks[0]->sample(1).prompt, tasks[0]->sample(0).prompt);
  std::vector<size_t> lines;
  for (const SkippedLine& line : skipped) lines.push_back(line.line);
  EXPECT_THAT(lines, ElementsAre(2, 3, 4, 5, 6));
  EXPECT_THAT(skipped[1].reason, HasSubstr("'answers' must be a list"));
  EXPECT_THAT(skipped[2].reason, HasSubstr("third"));
  EXPECT_EQ(tasks[0]->files(),
            std::vector<std::filesystem::path>{folder.file("passage_retrieval_en.jsonl")});
}

TEST(LongBenchSuite, NamesRecordsThatItsMetricsCannotJudge) {
  const TemporaryFolder folder;
  const auto reason = [&](const std::string& task, const std::string& fields) {
    std::ofstream(folder.file(task + ".jsonl"))
        << R"({"input": "q", "context": "c", "length": 3, )" << fields << "}\n";
    return test::reason_to_skip(kSuite, folder.path(), {task});
  };
  EXPECT_EQ(reason("trec", R"("answers": ["Date"], "all_classes": ["Date", "Food"])"), "no error");
  EXPECT_THAT(reason("trec", R"("answers": ["Date"], "all_classes": null)"),
              HasSubstr("name them in 'all_classes'"));
  EXPECT_THAT(reason("trec", R"("answers": ["Date"])"), HasSubstr("name them in 'all_classes'"));
  EXPECT_THAT(reason("trec", R"("answers": ["Date"], "all_classes": ["Food"])"),
              HasSubstr("not among 'all_classes'"));
  for (const LongBenchDataset& dataset : longbench_datasets()) {
    EXPECT_THAT(reason(std::string(dataset.name), R"("answers": [])"),
                HasSubstr("is an empty list"));
    EXPECT_THAT(reason(std::string(dataset.name), R"("answers": [" "])"), HasSubstr("item 1 of"));
    EXPECT_THAT(reason(std::string(dataset.name), R"("answers": [4711])"),
                HasSubstr("item 1 is 4711"));
  }
}

TEST(LongBenchSuite, ReadsCompressedFilesToo) {
  const TemporaryFolder folder;
  const std::string line = R"({"input": "q", "context": "c", "answers": ["b"], "length": 3})";
  gzFile file = gzopen(folder.file("hotpotqa.jsonl.gz").c_str(), "wb");
  ASSERT_GT(gzputs(file, (line + "\n" + line + "\n").c_str()), 0);
  ASSERT_EQ(gzclose(file), Z_OK);
  SuiteOptions options;
  options.data = folder.file("");
  const auto tasks = open_suite(kSuite, options);
  ASSERT_THAT(names(tasks), ElementsAre("hotpotqa"));
  EXPECT_EQ(tasks[0]->size(), 2U);
  EXPECT_THAT(tasks[0]->sample(1).prompt, HasSubstr("passages.\nc\n"));
}

TEST(LongBenchSuite, LimitTakesTheFirstRecords) {
  SuiteOptions options;
  options.data = suite_data();
  options.tasks = {"trec"};
  options.limit = 1;
  const auto tasks = open_suite(kSuite, options);
  ASSERT_EQ(tasks[0]->size(), 1U);
  EXPECT_EQ(tasks[0]->sample(0).id, "trec-0");
  EXPECT_THROW((void)tasks[0]->sample(1), std::out_of_range);
}

TEST(LongBenchSuite, RefusesWhatIsNotThere) {
  SuiteOptions options;
  options.data = suite_data();
  options.tasks = {"hotpot"};
  EXPECT_THAT(error_of(options), HasSubstr("no task 'hotpot'; known: narrativeqa, "));
  options.tasks = {"hotpotqa"};
  options.profile = "official2";
  EXPECT_THAT(error_of(options), HasSubstr("no profile 'official2'; known: official, restkv"));
  options.profile = "";
  const TemporaryFolder folder;
  options.data = folder.file("");
  EXPECT_THAT(error_of(options), HasSubstr("no longbench/hotpotqa.jsonl in"));
  EXPECT_THAT(error_of(options), HasSubstr("https://huggingface.co/"));
  options.data = "";
  EXPECT_THAT(error_of(options), HasSubstr("needs a data folder with longbench/hotpotqa.jsonl"));
  options.tasks = {};
  EXPECT_THAT(open_suite(kSuite, options), IsEmpty());
  options.data = folder.file("");
  std::ofstream(folder.file("lcc.jsonl")) << "\n{}\n";
  EXPECT_THAT(error_of(options), HasSubstr("lcc.jsonl: no line can be used; line 2: field "));
}

/// All records of a data folder, against templates and limits in the files of the publisher.
TEST(LongBenchSuite, BuildsThePublishedPrompts) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const auto read_file = [&](const std::string& name) {
    return read_json((data / "longbench" / name).string());
  };
  const Json templates = read_file("dataset2prompt.json");
  const Json limits = read_file("dataset2maxlen.json");
  const auto words = [](const std::string& text) {
    std::istringstream stream(text);
    return std::distance(std::istream_iterator<std::string>(stream), {});
  };
  SuiteOptions options;
  options.data = data;
  const auto tasks = open_suite(kSuite, options);
  EXPECT_THAT(tasks, SizeIs(16));
  size_t with_length = 0;
  size_t records_read = 0;
  for (const auto& task : tasks) {
    const auto records = test::read_jsonl(task->files().at(0));
    ASSERT_EQ(task->size(), records.size());
    for (size_t i = 0; i < records.size(); ++i) {
      auto wanted = templates.at(task->name()).get<std::string>();
      // From the back, so that what a field holds is not looked at.
      if (const size_t at = wanted.rfind("{input}"); at != std::string::npos) {
        wanted.replace(at, 7, records[i].at("input").get<std::string>());
      }
      wanted.replace(wanted.find("{context}"), 9, records[i].at("context").get<std::string>());
      const Sample sample = task->sample(i);
      ASSERT_EQ(sample.prompt, wanted) << task->name() << " " << i;
      EXPECT_EQ(sample.max_new_tokens, limits.at(task->name()));
      const auto answer = records[i].at("answers").at(0).get<std::string>();
      const auto length = words(records[i].at("input").get<std::string>()) +
                          words(records[i].at("context").get<std::string>()) + words(answer);
      if (length == sample.reference.at("length")) ++with_length;
      ++records_read;
    }
  }
  // Words by ASCII white space, so a few texts with other spaces count otherwise.
  EXPECT_GT(with_length, records_read * 9 / 10);
}

}  // namespace
}  // namespace restkv::eval
