// `restkv eval` and `restkv report`: runs that are killed, shared, repeated and refused.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"
#include "cli/eval_samples.h"
#include "eval/results.h"

namespace restkv {
namespace {

constexpr size_t kSamples = 12;

class CliEval : public ::testing::Test {
 protected:
  CliEval() {
    chat_model().write(model_);
    write_samples(data_, kSamples, 10);
  }
  [[nodiscard]] std::vector<std::string> arguments(
      const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> list{"eval", "prompts",  "-m",     model_,     "--data",
                                  data_,  "--method", "snapkv", "--budget", "48,64",
                                  "-t",   "1",        "-o",     run};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  void run(const std::string& folder, const std::vector<std::string>& more = {}) const {
    const Outcome outcome = restkv_process(arguments(folder, more));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  [[nodiscard]] std::string refusal(int exit_code, const std::string& folder,
                                    const std::vector<std::string>& more) const {
    const Outcome outcome = restkv_process(arguments(folder, more));
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
  std::string data_ = folder_.file("data.jsonl");
  std::string run_ = folder_.file("run");
};

TEST_F(CliEval, AKilledRunGoesOnAndEndsTheSame) {
  const std::string whole = folder_.file("whole");
  run(whole);
  const auto expected = results_of_run(whole);
  ASSERT_EQ(expected.size(), kSamples);

  // Killed three times, each time a few samples later.
  for (size_t killed = 0; killed < 3; ++killed) {
    const size_t before = killed == 0 ? 0 : results_of_run(run_).size();
    const Outcome outcome = restkv_process(Spawn{
        .arguments = arguments(run_),
        .interrupt_when =
            [](const Outcome& so_far) { return so_far.err.find("sample 3/") != std::string::npos; },
        .interrupt_with = SIGKILL});
    EXPECT_EQ(outcome.signal, SIGKILL);
    const size_t after = results_of_run(run_).size();
    EXPECT_GE(after, before + 2) << "two samples were finished";
    EXPECT_LT(after, kSamples);
  }
  run(run_);
  EXPECT_EQ(results_of_run(run_), expected);
  // Every sample has one line: none was run again after it was finished.
  std::ifstream file(run_ + "/results.jsonl");
  size_t lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  EXPECT_EQ(lines, kSamples);
}

TEST_F(CliEval, CtrlCSavesWhatIsFinished) {
  const Outcome outcome = restkv_process(
      Spawn{.arguments = arguments(run_), .interrupt_when = [](const Outcome& so_far) {
              return so_far.err.find("sample 3/") != std::string::npos;
            }});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_THAT(outcome.err, HasSubstr("interrupted; what is finished is in " + run_));
  EXPECT_GE(results_of_run(run_).size(), 2U);
  EXPECT_LT(results_of_run(run_).size(), kSamples);
  const Outcome rest = restkv_process(arguments(run_));
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.out, HasSubstr("from before"));
  EXPECT_EQ(results_of_run(run_).size(), kSamples);
}

TEST_F(CliEval, ShardsOfOneFolderOrOfSeveralMakeTheWhole) {
  const std::string whole = folder_.file("whole");
  run(whole);
  for (const char* shard : {"2/3", "1/3", "3/3"}) run(run_, {"--shard", shard});
  EXPECT_EQ(results_of_run(run_), results_of_run(whole));
  EXPECT_EQ(eval::read_results(run_ + "/results-2-of-3.jsonl").size(), kSamples / 3);
}

TEST_F(CliEval, ReportsOnShardsAsOnTheWhole) {
  run(run_ + "-1", {"--shard", "1/2"});
  run(run_ + "-2", {"--shard", "2/2"});
  const std::string report = folder_.file("report");
  const Outcome half = restkv_process({"report", run_ + "-1"});
  ASSERT_EQ(half.exit_code, 0) << half.err;
  EXPECT_THAT(half.out, HasSubstr(fmt::format("Not complete: 6 of {} samples", kSamples)));
  const Outcome outcome = restkv_process({"report", run_ + "-1", run_ + "-2", "-o", report});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("snapkv"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("Not complete")));
  EXPECT_THAT(outcome.out, HasSubstr(report + "/index.html"));
  for (const char* name :
       {"report.md", "report.csv", "report.json", "index.html", "1-prompts-budget.svg"}) {
    EXPECT_GT(std::filesystem::file_size(report + "/" + name), 100U) << name;
  }
  const auto json = read_json(report + "/report.json");
  ASSERT_EQ(json.at("runs").size(), 1U);
  EXPECT_EQ(json.at("runs")[0].at("samples").at("finished"), kSamples);

  EXPECT_EQ(restkv_process({"report", folder_.file("absent")}).exit_code, 1);
  EXPECT_EQ(restkv_process({"report"}).exit_code, 2);
}

TEST_F(CliEval, OtherSettingsNeedAnotherFolder) {
  run(run_, {"--limit", "1"});
  const auto before = results_of_run(run_);
  const std::string message = refusal(2, run_, {"--limit", "2"});
  EXPECT_THAT(message, HasSubstr(run_ + " holds a run with other settings"));
  EXPECT_THAT(message, HasSubstr("limit: 1 there, 2 here"));
  EXPECT_THAT(refusal(2, run_, {"--limit", "1", "--max-prompt", "100"}),
              HasSubstr("max_prompt: 0 there, 100 here"));
  std::ofstream(data_, std::ios::app) << "\n";
  EXPECT_THAT(refusal(2, run_, {"--limit", "1"}), HasSubstr("sha256"));
  EXPECT_EQ(results_of_run(run_), before);
}

TEST_F(CliEval, RefusesBeforeTheWorkBegins) {
  EXPECT_THAT(refusal(2, run_, {"--shard", "4/3"}), HasSubstr("--shard is \"4/3\""));
  EXPECT_THAT(refusal(2, run_, {"--shard", "2"}), HasSubstr("expected i/n"));
  EXPECT_THAT(refusal(2, run_, {"--budget", "8"}), HasSubstr("budget 8 leaves no room"));
  EXPECT_THAT(restkv_process({"eval", "anli", "-m", model_, "-o", run_, "--choices", "joint"}).err,
              HasSubstr("--method full"));
  for (const std::vector<std::string>& for_others :
       std::vector<std::vector<std::string>>{{"--choices", "held-back"},
                                             {"--shots", "2"},
                                             {"--bos"},
                                             {"--allow-code-execution"},
                                             {"--allow-code-execution", "--sandbox", "reduced"}}) {
    EXPECT_THAT(refusal(2, run_, for_others),
                HasSubstr(for_others[0] + " has no effect on the suite prompts"));
  }
  EXPECT_THAT(refusal(2, run_, {"--sandbox", "reduced"}), HasSubstr("--allow-code-execution"));
  EXPECT_THAT(refusal(2, run_, {"--allow-code-execution", "--sandbox", "none"}),
              HasSubstr("--sandbox"));
  EXPECT_THAT(refusal(2, run_, {"--method", "snapkv,snapkv"}),
              HasSubstr("--method: \"snapkv,snapkv\" names snapkv a second time"));
  EXPECT_THAT(refusal(2, run_, {"--kv-type", "f8"}), HasSubstr("f8"));
  EXPECT_THAT(refusal(2, run_, {"--linear", "f8"}), HasSubstr("f8"));
  EXPECT_THAT(refusal(2, run_, {"--method", "none"}), HasSubstr("none"));
  EXPECT_THAT(refusal(2, run_, {"--tasks", "third"}), HasSubstr("third"));
  EXPECT_THAT(refusal(1, model_ + "/run", {}),
              HasSubstr("cannot write into the folder " + model_ + "/run"));
  EXPECT_FALSE(std::filesystem::exists(run_));
  EXPECT_THAT(restkv_process(
                  {"eval", "prompts", "-m", model_, "-o", run_, "--data", folder_.file("absent")})
                  .err,
              HasSubstr("absent"));
  EXPECT_FALSE(std::filesystem::exists(run_));
  EXPECT_THAT(restkv_process({"eval", "prompts", "-m", model_}).err,
              HasSubstr("--output is missing"));
  EXPECT_THAT(restkv_process({"eval", "none", "-m", model_, "-o", run_}).err,
              HasSubstr("there is no benchmark suite 'none'"));
}

TEST_F(CliEval, SaysWhatWasLeftOut) {
  std::ofstream(data_)
      << R"({"id": "good", "text": "one two", "answers": ["1"], "max_new_tokens": 2})"
         "\n"
         R"({"id": "zero", "text": "one\u0000two", "answers": ["1"]})"
         "\n"
      << Json{{"id", "endless"}, {"text", std::string(5U << 20U, '-')}, {"answers", {"1"}}}.dump()
      << "\n";
  for (const char* before : {"", ", 2 of them from before"}) {  // the second start finds the first
    const Outcome outcome = restkv_process(arguments(run_));
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("data.jsonl:2: left out: a text holds a zero byte"));
    EXPECT_THAT(outcome.out, HasSubstr(fmt::format("2 samples in {}{}, 1 left out", run_, before)));
  }
  EXPECT_THAT(restkv_process({"report", run_}).out, HasSubstr("endless"));
}

TEST_F(CliEval, ARunInWhichEverythingFailedIsNoSuccess) {
  std::ofstream(data_) << Json{{"text", std::string(5U << 20U, '-')}, {"answers", {"1"}}}.dump();
  EXPECT_EQ(restkv_process(arguments(run_)).exit_code, 1);
  const Outcome report = restkv_process({"report", run_});
  EXPECT_EQ(report.exit_code, 1);
  EXPECT_THAT(report.err, HasSubstr("all 1 samples failed"));
}

TEST_F(CliEval, AShareWithoutSamplesIsNoSuccess) {
  std::ofstream(data_) << R"({"text": "one two", "answers": ["1"], "max_new_tokens": 2})";
  EXPECT_THAT(refusal(2, run_, {"--shard", "2/2"}),
              HasSubstr("--shard 2/2 holds no sample, since there are 1"));
  EXPECT_FALSE(std::filesystem::exists(run_));
}

// What a refused command leaves must not stand in the way of the one that mends it.
TEST_F(CliEval, AMethodThatDoesNotFitTheModelLeavesNothing) {
  const std::vector<std::string> ladder{"--method", "lacache", "--budget"};
  std::vector<std::string> list = arguments(run_);
  list.erase(list.begin() + 6, list.begin() + 10);  // its own --method and --budget
  const auto with = [&](const char* budget) {
    std::vector<std::string> more = list;
    more.insert(more.end(), ladder.begin(), ladder.end());
    more.emplace_back(budget);
    return restkv_process(more);
  };
  const Outcome refused = with("5");
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("is too small for a ladder"));
  EXPECT_FALSE(std::filesystem::exists(run_));
  const Outcome mended = with("48");
  EXPECT_EQ(mended.exit_code, 0) << mended.err;
}

TEST_F(CliEval, ResultsWithoutChecksumsAreSaid) {
  run(run_);
  const std::string path = run_ + "/results.jsonl";
  std::string line = text_of(path);
  line = line.substr(0, line.find('\n'));
  std::ofstream(path) << line.substr(0, line.find(",\"checksum\"")) << "}\n";
  const Outcome outcome = restkv_process(arguments(run_));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 samples from before have no checksum"));
}

TEST_F(CliEval, LookAlikesOfControlTokensAreTextInAChat) {
  std::ofstream(data_) << R"({"text": "say <|im_end|>", "answers": ["1"], "max_new_tokens": 1})";
  const auto tokens = [&](const std::vector<std::string>& more) {
    const std::string folder = folder_.file("run" + std::to_string(more.size()));
    run(folder, more);
    return eval::read_results(folder).at(0).prompt_tokens;
  };
  const size_t parsed = tokens({"--chat", "--parse-special"});
  EXPECT_GT(tokens({"--chat"}), parsed);
  EXPECT_THAT(refusal(2, run_, {"--parse-special"}), HasSubstr("no effect without --chat"));
}

TEST_F(CliEval, NamesOptionsWithoutEffect) {
  EXPECT_THAT(refusal(2, run_, {"--temperature", "-1"}),
              HasSubstr("temperature is -1; expected 0, or"));
  for (const std::vector<std::string>& ignored : std::vector<std::vector<std::string>>{
           {"--lengths", "100"}, {"--samples", "2"}, {"--temperature", "0.5"}}) {
    EXPECT_THAT(refusal(2, run_, ignored),
                HasSubstr(ignored[0] + " has no effect on the suite prompts"));
  }
}

TEST_F(CliEval, RefusesChatsWhereNothingIsSaid) {
  for (const char* suite : {"glue", "anli", "superglue", "perplexity"}) {
    for (const std::vector<std::string>& more :
         std::vector<std::vector<std::string>>{{"--chat"}, {"--max-prompt", "70"}}) {
      std::vector<std::string> list{"eval", suite, "-m", model_, "-o", run_};
      list.insert(list.end(), more.begin(), more.end());
      const Outcome outcome = restkv_process(list);
      EXPECT_EQ(outcome.exit_code, 2);
      EXPECT_THAT(outcome.err, HasSubstr(more[0] + " has no effect on the suite " + suite));
    }
  }
}

TEST_F(CliEval, DataThatIsNotThereIsNoReasonToInventSome) {
  for (const char* suite : {"niah", "ruler", "prompts", "longbench"}) {
    const Outcome outcome =
        restkv_process({"eval", suite, "-m", model_, "-o", run_, "--data", folder_.file("absent")});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("absent: No such file or directory"));
  }
  EXPECT_THAT(restkv_process({"eval", "niah", "-m", model_, "-o", run_, "--data", data_}).err,
              HasSubstr("is no folder; this suite finds its files in one"));
  EXPECT_EQ(restkv_process({"eval", "--list", "--data", folder_.file("absent")}).exit_code, 1);
  EXPECT_FALSE(std::filesystem::exists(run_));
}

TEST_F(CliEval, AListReadsNothingElse) {
  EXPECT_THAT(restkv_process({"eval", "--list", "--budget", "64"}).err,
              HasSubstr("--budget has no effect with --list"));
  EXPECT_THAT(restkv_process({"eval", "--list", "--recipe", "alpha", "-o", run_}).err,
              HasSubstr("--output has no effect with --list"));
  EXPECT_EQ(restkv_process({"eval", "--list", "glue"}).exit_code, 0);
  EXPECT_EQ(restkv_process({"eval", "--list", "--recipe", "alpha"}).exit_code, 0);
}

TEST_F(CliEval, NamesTheFilesThatAreMissing) {
  const std::vector<std::string> longbench{"eval",     "longbench", "-m",       model_,
                                           "-t",       "1",         "-o",       run_,
                                           "--budget", "48",        "--method", "snapkv"};
  const Outcome none = restkv_process(longbench);
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("the files of all 16 tasks of longbench are missing "
                                  "(longbench/narrativeqa.jsonl, "));
  EXPECT_THAT(none.err, HasSubstr("get them from https://huggingface.co/datasets/THUDM/LongBench"));
  EXPECT_FALSE(std::filesystem::exists(run_));

  std::filesystem::create_directories(folder_.file("data/longbench"));
  std::ofstream(folder_.file("data/longbench/hotpotqa.jsonl"))
      << R"({"input": "q", "context": "c", "answers": ["answer"], "length": 3})" << '\n'
      << R"({"input": "q", "context": "c", "answers": [], "length": 3})" << '\n';
  std::vector<std::string> one = longbench;
  one.insert(one.end(), {"--data", folder_.file("data")});
  const Outcome some = restkv_process(one);
  EXPECT_EQ(some.exit_code, 0) << some.err;
  EXPECT_THAT(some.err, HasSubstr("restkv: 15 of 16 tasks are left out, their files are missing: "
                                  "narrativeqa, qasper, multifieldqa_en, 2wikimqa, "));
  EXPECT_THAT(some.err, HasSubstr("hotpotqa.jsonl:2: left out: field 'answers' is an empty list"));
  EXPECT_THAT(some.out, HasSubstr("\n1 sample in "));
  EXPECT_THAT(some.out, StartsWith("longbench, model.gguf: 1 task, 1 sample with prompts of up to"))
      << "what was run comes first";
  EXPECT_THAT(some.out, HasSubstr("Scores\n")) << "the table needs no second command";
  EXPECT_EQ(restkv_process({"report", run_}).exit_code, 0);
  EXPECT_THAT(text_of(run_ + "/report/report.md"),
              HasSubstr("Left out, since their files were missing: narrativeqa, qasper"));
}

TEST_F(CliEval, LengthsThatCannotBeAreSaid) {
  const std::vector<std::string> niah{"eval",     "niah",   "-m",      model_,     "-t",
                                      "1",        "-o",     run_,      "--budget", "48",
                                      "--method", "snapkv", "--limit", "1"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list = niah;
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(list);
  };
  const Outcome beyond = with({"--lengths", "1000,9000"});
  EXPECT_EQ(beyond.exit_code, 2);
  EXPECT_THAT(beyond.err, HasSubstr("--lengths 9000 is beyond the model's context of 4096 tokens"));
  EXPECT_THAT(with({"--lengths", "1000,1000"}).err, HasSubstr("names 1000 a second time"));
  EXPECT_FALSE(std::filesystem::exists(run_));

  const Outcome cut = with({"--lengths", "1000", "--max-prompt", "100"});
  EXPECT_EQ(cut.exit_code, 0) << cut.err;
  EXPECT_THAT(cut.err, HasSubstr("restkv: prompts of 1000 tokens are cut to 100 (--max-prompt)\n"));
  EXPECT_THAT(restkv_process({"report", run_}).out,
              ::testing::ContainsRegex("Scores, 1000 tokens, cut to [0-9]+"));
}

TEST_F(CliEval, ResultsNameTheBudgetsThatWereChosen) {
  const Outcome outcome =
      restkv_process({"eval", "prompts", "-m", model_, "--data", data_, "--method", "snapkv,restkv",
                      "--budget", "48,auto:0.9,auto:0.01", "-t", "1", "-o", run_, "--limit", "2"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const eval::SampleResult& result : eval::read_results(run_)) {
    ASSERT_EQ(result.cells.size(), 7U);
    EXPECT_EQ(result.cells[0].kept, static_cast<double>(result.prompt_tokens));
    EXPECT_EQ(result.cells[1].cell, "snapkv@48");
    EXPECT_EQ(result.cells[1].kept, 48);
    EXPECT_EQ(result.cells[2].cell, "snapkv@auto:0.9");
    EXPECT_GE(result.cells[2].kept, 33);
    EXPECT_EQ(result.cells[3].cell, "snapkv@auto:0.01");
    EXPECT_GE(result.cells[3].kept, result.cells[2].kept);
  }
  EXPECT_EQ(restkv_process({"report", run_}).exit_code, 0);
  EXPECT_THAT(text_of(run_ + "/report/report.md"), HasSubstr("| auto:0.01 | snapkv | "));
  EXPECT_THAT(text_of(run_ + "/report/report.md"), HasSubstr("| budget | method | kept |"));
  EXPECT_THAT(refusal(2, run_ + "2", {"--tolerance", "0.1"}),
              HasSubstr("--tolerance has no effect without --budget auto"));
}

TEST_F(CliEval, BudgetsThatEvictNothingAreSaid) {
  run(run_, {"--limit", "1"});
  const Outcome outcome =
      restkv_process({"eval", "prompts", "-m", model_, "--data", data_, "--method", "snapkv",
                      "--budget", "48,4000", "-t", "1", "-o", run_ + "2", "--limit", "1"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              ::testing::ContainsRegex("restkv: nothing was evicted at budget 4000: the "
                                       "longest prompt has [0-9]+ tokens\n"));
  EXPECT_EQ(restkv_process({"report", run_ + "2"}).exit_code, 0);
  EXPECT_THAT(text_of(run_ + "2/report/report.md"),
              HasSubstr("Nothing was evicted at budget 4000"));
  EXPECT_EQ(restkv_process({"report", run_}).exit_code, 0);
  EXPECT_THAT(text_of(run_ + "/report/report.md"), Not(HasSubstr("Nothing was evicted")));
}

TEST_F(CliEval, AReportNeedsResults) {
  run(run_, {"--limit", "1"});
  std::filesystem::resize_file(run_ + "/results.jsonl", 0);
  const Outcome empty = restkv_process({"report", run_});
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_EQ(empty.out, "");
  EXPECT_THAT(empty.err, HasSubstr(run_ + ": holds no results yet"));
  EXPECT_FALSE(std::filesystem::exists(run_ + "/report"));
}

TEST_F(CliEval, ListsSuitesAndTheirFiles) {
  const Outcome all = restkv_process({"eval", "--list"});
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_THAT(all.out, ::testing::ContainsRegex("\n  longbench +.* \\(16 tasks\\)\n"));
  EXPECT_THAT(all.out, ::testing::ContainsRegex("\n  indicator +"));  // a recipe
  EXPECT_THAT(all.out, Not(HasSubstr("hotpotqa")));
  EXPECT_LT(std::ranges::count(all.out, '\n'), 40);
  const Outcome found = restkv_process({"eval", "--list", "--data", folder_.file(".")});
  EXPECT_THAT(found.out, HasSubstr("(16 tasks, 16 without their files)"));
  std::filesystem::create_directories(folder_.file("data/longbench"));
  std::ofstream(folder_.file("data/longbench/qasper.jsonl.gz")) << "x";
  const Outcome one =
      restkv_process({"eval", "longbench", "--list", "--data", folder_.file("data")});
  EXPECT_THAT(one.out, Not(HasSubstr("perplexity")));
  // Where the files come from is said once.
  const size_t source = one.out.find("from https://");
  ASSERT_NE(source, std::string::npos);
  EXPECT_EQ(one.out.find(one.out.substr(source, one.out.find('\n', source) - source), source + 1),
            std::string::npos);
  EXPECT_THAT(one.out, ::testing::ContainsRegex("qasper.*found"));
  EXPECT_THAT(one.out, ::testing::ContainsRegex("hotpotqa.*missing"));
  EXPECT_EQ(restkv_process({"eval", "none", "--list"}).exit_code, 2);
}

}  // namespace
}  // namespace restkv
