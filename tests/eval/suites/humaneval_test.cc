#include "eval/suites/code/humaneval.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "eval/suites/code/code_context.h"
#include "eval/suites/code/code_problem.h"
#include "eval/suites/code_test_data.h"
#include "restkv/error.h"
#include "sandbox/sandboxes.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr size_t kAnswer = 1024;

const Tokenizer& tokenizer() {
  static const Tokenizer kTokenizer(testing::test_model_path());
  return kTokenizer;
}

size_t count_tokens(const std::string& text) {
  return tokenizer().encode(text, true, false).size();
}

const test::CodeData& data() {
  static const test::CodeData kData;
  return kData;
}

SuiteOptions options_for(const std::vector<std::string>& tasks, std::vector<size_t> lengths = {}) {
  SuiteOptions options;
  options.tokenizer = &tokenizer();
  options.data = data().folder();
  options.tasks = tasks;
  options.lengths = std::move(lengths);
  options.allow_code_execution = true;
  options.reduced_sandbox = true;  // the code is that of these tests
  return options;
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options) {
  std::vector<SkippedLine> skipped;
  auto tasks = humaneval_suite().open(options, skipped);
  EXPECT_TRUE(skipped.empty());
  return tasks;
}

std::unique_ptr<Task> open_one(const SuiteOptions& options) {
  auto tasks = open(options);
  if (tasks.size() != 1) throw std::runtime_error("expected one task");
  return std::move(tasks.front());
}

std::map<std::string, CodeProblem> problems_of(const fs::path& folder) {
  std::map<std::string, CodeProblem> problems;
  for (const Json& record : test::read_jsonl(folder / "humaneval" / "HumanEval.jsonl")) {
    CodeProblem problem = code_problem(record);
    problems[problem.id] = problem;
  }
  return problems;
}

std::string error_of(const SuiteOptions& options, ErrorCode code) {
  return restkv::testing::refusal(code, [&] { (void)open(options); });
}

/// "HumanEval/3@4096" -> "HumanEval/3"
std::string problem_id(const Sample& sample) { return sample.id.substr(0, sample.id.find('@')); }

/// What comes before the task itself, which begins with `heading`.
std::string context_of(const Sample& sample) {
  const size_t end = sample.prompt.rfind("# file: solution.py\n");
  EXPECT_NE(end, std::string::npos) << sample.id;
  return sample.prompt.substr(0, end);
}

/// The first parts of a context are those of a longer one.
std::vector<std::string> headings(const std::string& context) {
  std::vector<std::string> found;
  for (size_t at = 0; (at = context.find("# file: ", at)) != std::string::npos; ++at) {
    found.push_back(context.substr(at, context.find('\n', at) - at));
  }
  return found;
}

/// Nothing of a problem's solution or test stands in the context.
void expect_clean(const std::string& context, const CodeProblem& problem) {
  EXPECT_FALSE(defines(context, problem.entry_point)) << problem.id;
  for (const std::string& text :
       {problem.prompt, problem.solution, problem.test, std::string("def check(candidate)")}) {
    EXPECT_EQ(context.find(text), std::string::npos) << problem.id << ": " << text;
  }
}

TEST(HumanEval, NeedsPermissionToRunCode) {
  SuiteOptions options = options_for({});
  options.allow_code_execution = false;
  EXPECT_THAT(error_of(options, ErrorCode::kInvalidArgument), HasSubstr("allow-code-execution"));
}

TEST(HumanEval, NeedsPermissionToRunCodeInLessThanTheWholeSandbox) {
  const auto open_without_namespaces = [](bool reduced) {
    test::Child restkv([reduced]() -> std::string {
      if (!test::lose_user_namespaces()) return "skip";
      SuiteOptions options = options_for({});
      options.reduced_sandbox = reduced;
      return fmt::format("{}", fmt::join(open_one(options)->notes(), "\n"));
    });
    return restkv.said();
  };
  const std::string refused = open_without_namespaces(false);
  if (refused == "skip") GTEST_SKIP() << "user namespaces cannot be forbidden here";
  EXPECT_THAT(refused, AllOf(HasSubstr("- no namespaces (clone: "), HasSubstr("to have it: permit"),
                             HasSubstr("sandbox to reduced")));
  EXPECT_THAT(open_without_namespaces(true),
              HasSubstr("code was run with incomplete isolation: no namespaces"));
}

TEST(HumanEval, WrongOptionsAreNamed) {
  SuiteOptions options = options_for({});
  options.draws = 10;
  EXPECT_THAT(error_of(options, ErrorCode::kInvalidArgument), HasSubstr("10 draws"));
  options = options_for({});
  options.data = "/nowhere";
  EXPECT_THAT(error_of(options, ErrorCode::kInput), HasSubstr("HumanEval.jsonl"));
  EXPECT_THAT(error_of(options_for({"humanevil"}), ErrorCode::kInvalidArgument),
              HasSubstr("humanevil"));
  options = options_for({});
  options.profile = "nonsense";
  EXPECT_THAT(error_of(options, ErrorCode::kInvalidArgument), HasSubstr("nonsense"));
}

TEST(HumanEval, PromptsAreThePublishedOnes) {
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options_for({}));
  EXPECT_EQ(task->name(), "humaneval");
  EXPECT_EQ(task->published_size(), 164U);
  ASSERT_EQ(task->size(), problems.size());
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    EXPECT_EQ(sample.prompt, problems.at(sample.id).prompt);
    EXPECT_TRUE(sample.always_raw);
    EXPECT_EQ(sample.max_new_tokens, kAnswer);
    EXPECT_THAT(sample.stops, ElementsAre("\nclass", "\ndef", "\n#", "\nif", "\nprint"));
    EXPECT_EQ(sample.sampling.temperature, 0);
  }
  SuiteOptions options = options_for({});
  options.limit = 3;
  EXPECT_EQ(open_one(options)->size(), 3U);
}

TEST(HumanEval, InstructAsksInAMessage) {
  SuiteOptions options = options_for({"humaneval"});
  options.profile = "instruct";
  const auto problems = problems_of(data().folder());
  const Sample sample = open_one(options)->sample(2);
  EXPECT_FALSE(sample.always_raw);
  EXPECT_THAT(sample.prompt, StartsWith("Write a solution"));
  EXPECT_THAT(sample.prompt, HasSubstr(problems.at(sample.id).prompt));
  EXPECT_THAT(sample.answer_prefix, HasSubstr("```python\n" + problems.at(sample.id).prompt));
  EXPECT_THAT(sample.stops, ElementsAre("```"));
}

// Draw i has the seed + i, and libllama takes the largest one for any seed.
TEST(HumanEval, SeedsLeaveRoomForAllDraws) {
  SuiteOptions options = options_for({"humaneval"});
  options.draws = 10;
  options.temperature = 0.8F;
  options.seed = 0xFFFFFFFFU - 10;
  EXPECT_EQ(open_one(options)->sample(0).sampling.seed, 0xFFFFFFFFU - 10);
  for (const uint64_t seed : {uint64_t{0xFFFFFFFFU} - 9, uint64_t{0xFFFFFFFFU}, UINT64_MAX}) {
    options.seed = seed;
    EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { open_one(options); }),
                ::testing::HasSubstr("leaves no room for 10 draws"));
  }
  options.temperature = 0;  // greedy: nothing is drawn
  options.draws = 1;
  EXPECT_NO_THROW(open_one(options));
}

TEST(HumanEval, ScoresAreSharesOfDrawsThatPass) {
  SuiteOptions options = options_for({"humaneval"});
  options.draws = 10;
  options.temperature = 0.8F;
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options);
  const Sample sample = task->sample(0);
  EXPECT_EQ(sample.draws, 10U);
  EXPECT_FLOAT_EQ(sample.sampling.temperature, 0.8F);
  EXPECT_FLOAT_EQ(sample.sampling.top_p, 0.95F);
  EXPECT_EQ(sample.sampling.top_k, 0);

  Answer answer;
  answer.text = "    return 'wrong'\n";
  EXPECT_THAT(task->score(sample, answer), ElementsAre(Pair("pass@1", 0.0)));
  answer.more_texts.assign(9, answer.text);
  answer.more_texts[4] = problems.at(sample.id).solution;
  EXPECT_THAT(task->score(sample, answer),
              ElementsAre(Pair("pass@1", ::testing::DoubleNear(0.1, 1e-12)),
                          Pair("pass@10", ::testing::DoubleNear(1.0, 1e-12))));
  answer.text = problems.at(sample.id).solution;
  answer.more_texts.clear();
  EXPECT_THAT(task->score(sample, answer), ElementsAre(Pair("pass@1", 1.0)));
}

TEST(HumanEval, MalformedLinesAreSkippedByNumber) {
  const testing::TemporaryFolder folder;
  std::ofstream file(folder.path() / "HumanEval.jsonl");
  const auto records = test::read_jsonl(test::small_humaneval());
  Json incomplete = records[1];
  incomplete.erase("test");
  file << records[0] << "\n{broken\n" << incomplete << '\n' << records[2] << '\n';
  file.close();
  SuiteOptions options = options_for({});
  options.data = folder.path();
  std::vector<SkippedLine> skipped;
  const auto tasks = humaneval_suite().open(options, skipped);
  EXPECT_EQ(tasks.at(0)->size(), 2U);
  ASSERT_EQ(skipped.size(), 2U);
  EXPECT_EQ(skipped[0].line, 2U);
  EXPECT_EQ(skipped[1].line, 3U);
  EXPECT_THAT(skipped[1].reason, HasSubstr("test"));
}

/// The properties of contexts, for every problem and length.
void check_contexts(const SuiteOptions& options) {
  const auto problems = problems_of(options.data);
  const auto task = open_one(options);
  ASSERT_EQ(task->size() % options.lengths.size(), 0U);
  const size_t count = task->size() / options.lengths.size();
  for (size_t p = 0; p < count; ++p) {
    std::vector<std::string> shorter;
    for (size_t l = 0; l < options.lengths.size(); ++l) {
      const size_t length = options.lengths[l];
      const Sample sample = task->sample(l * count + p);
      EXPECT_EQ(sample.length, length);
      EXPECT_TRUE(sample.always_raw);
      const CodeProblem& problem = problems.at(problem_id(sample));
      EXPECT_TRUE(sample.prompt.ends_with("# file: solution.py\n" + problem.prompt));
      const std::string context = context_of(sample);
      expect_clean(context, problem);
      EXPECT_EQ(context.empty(), sample.reference.at("context_files") == 0);
      if (length != 0) {
        EXPECT_LE(count_tokens(sample.prompt) + kAnswer, length) << sample.id;
      }
      const std::vector<std::string> files = headings(context);
      ASSERT_LE(shorter.size(), files.size());
      EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), files.begin())) << sample.id;
      EXPECT_EQ(std::set(files.begin(), files.end()).size(), files.size()) << "a file twice";
      shorter = files;
    }
    EXPECT_FALSE(shorter.empty());
  }
}

TEST(HumanEval, ContextsHoldNothingOfTheProblem) {
  check_contexts(options_for({"context"}, {0, 2048, 4096, 12000}));
}

TEST(HumanEval, ContextsOfPublishedFilesHoldNothingOfTheProblem) {
  RESTKV_FOLDER_OR_SKIP(folder, "RESTKV_DATA_DIR");
  SuiteOptions options = options_for({"context"}, {0, 4096, 16384, 131072});
  options.data = folder;
  options.limit = 16;  // of 164: counting tokens takes its time
  check_contexts(options);
}

TEST(HumanEval, ContextsDependOnTheSeedAlone) {
  SuiteOptions options = options_for({"context", "helper", "turns"}, {8192});
  const auto first = open(options);
  const auto again = open(options);
  options.seed = 43;
  const auto other = open(options);
  for (size_t t = 0; t < first.size(); ++t) {
    EXPECT_EQ(first[t]->sample(1).prompt, again[t]->sample(1).prompt);
    EXPECT_NE(first[t]->sample(1).prompt, other[t]->sample(1).prompt);
  }
}

TEST(HumanEval, ContextsFillWhatTheyMay) {
  const auto task = open_one(options_for({"context"}, {16384}));
  for (size_t i = 0; i < task->size(); ++i) {
    // No file here has more than 1,000 tokens.
    EXPECT_GT(count_tokens(task->sample(i).prompt) + kAnswer, 16384U - 1200U);
  }
}

TEST(HumanEval, TooFewFilesAreAnError) {
  const auto task = open_one(options_for({"context"}, {1 << 20}));
  EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInput, [&] { (void)task->sample(0); }),
              HasSubstr("all files of code"));
  EXPECT_THROW((void)open_one(options_for({"context"}, {512}))->sample(0), Error);
}

TEST(HumanEval, ContextAnswersAreJudgedLikeOthers) {
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options_for({"context"}, {4096}));
  for (const size_t i : {size_t{0}, task->size() - 1}) {
    const Sample sample = task->sample(i);
    Answer answer;
    answer.text = problems.at(problem_id(sample)).solution;
    EXPECT_THAT(task->score(sample, answer), ElementsAre(Pair("pass@1", 1.0)));
    answer.text = "    return ()\n";
    EXPECT_THAT(task->score(sample, answer), ElementsAre(Pair("pass@1", 0.0)));
  }
}

TEST(HumanEval, HelpersStandInTheContextOnce) {
  const std::vector<size_t> lengths{0, 4096, 12000};
  const auto task = open_one(options_for({"helper"}, lengths));
  ASSERT_EQ(task->size(), 10 * lengths.size());
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    if (sample.length != 0) {
      EXPECT_LE(count_tokens(sample.prompt) + kAnswer, *sample.length) << sample.id;
    }
    const std::string context = context_of(sample);
    const std::string request = sample.prompt.substr(context.size());
    // "# NAME, needed below, ..."
    const size_t begin = request.find("\n# ") + 3;
    const std::string name = request.substr(begin, request.find(',', begin) - begin);
    const std::string definition = fmt::format("def {}(", name);
    const size_t at = context.find(definition);
    ASSERT_NE(at, std::string::npos) << sample.id;
    EXPECT_EQ(context.find(definition, at + 1), std::string::npos);
    EXPECT_EQ(request.find(definition), std::string::npos);
    // It stands under the heading of the module that the answer has to name.
    const size_t heading = context.rfind("# file: ", at);
    const auto module = sample.reference.at("module").get<std::string>();
    EXPECT_THAT(context.substr(heading), StartsWith(fmt::format("# file: {}.py\n", module)));
    EXPECT_EQ(*sample.length == 0, module == "helpers");
  }
}

TEST(HumanEval, HelpersCanBeImportedFromTheirFile) {
  const auto task = open_one(options_for({"helper"}, {8192}));
  bool found = false;
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    if (problem_id(sample) != "HumanEval/50") continue;  // decode_shift, of encode_shift
    found = true;
    const auto module = sample.reference.at("module").get<std::string>();
    Answer answer;
    answer.text = "    return ''.join(chr((ord(c) - 5 - ord('a')) % 26 + ord('a')) for c in s)\n";
    EXPECT_THAT(task->score(sample, answer),
                ElementsAre(Pair("pass@1", 1.0), Pair("helper imported", 0.0)));
    answer.text = fmt::format("    from {} import *\n{}", module, answer.text);
    EXPECT_THAT(task->score(sample, answer), ElementsAre(Pair("pass@1", 0.0), ::testing::_))
        << "import * is not allowed in a function";
    answer.text = fmt::format("    from {} import nothing\n    return s\n", module);
    EXPECT_THAT(task->score(sample, answer),
                ElementsAre(Pair("pass@1", 0.0), Pair("helper imported", 1.0)));
  }
  EXPECT_TRUE(found);
}

TEST(HumanEval, ConversationsHoldEachProblemOnce) {
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options_for({"turns"}, {0}));
  ASSERT_EQ(task->size(), problems.size() / 4);
  std::multiset<std::string> asked;
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    EXPECT_EQ(sample.prompt, "");
    ASSERT_EQ(sample.turns.size(), 5U);
    for (size_t t = 0; t < 5; ++t) {
      const Turn& turn = sample.turns[t];
      const CodeProblem& problem = problems.at(sample.reference.at("turns")[t].at("id").text());
      EXPECT_EQ(turn.undone, t == 3);
      EXPECT_THAT(turn.prompt, HasSubstr(problem.prompt));
      EXPECT_THAT(turn.answer_prefix, HasSubstr(problem.prompt));
      EXPECT_EQ(turn.forced_answer, turn.answer_prefix + problem.solution + "```");
      if (t < 4) asked.insert(problem.id);
    }
    EXPECT_EQ(sample.turns[3].prompt, sample.turns[4].prompt);
  }
  EXPECT_EQ(asked.size(), problems.size());
  EXPECT_EQ(std::set(asked.begin(), asked.end()).size(), problems.size());
}

TEST(HumanEval, FreeConversationsKeepTheModelsAnswers) {
  const auto forced = open_one(options_for({"turns"}, {8192}));
  const auto free = open_one(options_for({"turns-free"}, {8192}));
  for (size_t i = 0; i < free->size(); ++i) {
    const Sample sample = free->sample(i);
    EXPECT_EQ(sample.prompt, forced->sample(i).prompt) << "the same but for the history";
    for (const Turn& turn : sample.turns) EXPECT_EQ(turn.forced_answer, "");
  }
}

TEST(HumanEval, ConversationsBeginBehindCleanContexts) {
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options_for({"turns"}, {6000}));
  for (size_t i = 0; i < task->size(); ++i) {
    const Sample sample = task->sample(i);
    EXPECT_LE(count_tokens(sample.prompt), 6000U);
    EXPECT_GT(count_tokens(sample.prompt), 4500U);
    for (const Json& turn : sample.reference.at("turns")) {
      expect_clean(sample.prompt, problems.at(turn.at("id").text()));
    }
  }
}

TEST(HumanEval, ConversationsAreScoredByTurn) {
  const auto problems = problems_of(data().folder());
  const auto task = open_one(options_for({"turns"}, {0}));
  const Sample sample = task->sample(1);
  Answer answer;
  EXPECT_THROW((void)task->score(sample, answer), Error);
  for (const Json& turn : sample.reference.at("turns")) {
    answer.turn_texts.push_back(problems.at(turn.at("id").text()).solution);
  }
  answer.turn_texts[1] = "    return ()\n";
  answer.turn_tokens = {100, 200, 300, 400, 400};
  const Scores scores = task->score(sample, answer);
  EXPECT_THAT(scores, ElementsAre(Pair("pass@1", 0.75), Pair("pass@1 turn 1", 1.0),
                                  Pair("pass@1 turn 2", 0.0), Pair("pass@1 turn 3", 1.0),
                                  Pair("pass@1 turn 4", 1.0), Pair("pass@1 last turn again", 1.0),
                                  Pair("tokens turn 1", 100.0), Pair("tokens turn 2", 200.0),
                                  Pair("tokens turn 3", 300.0), Pair("tokens turn 4", 400.0),
                                  Pair("tokens turn 5", 400.0)));
  const Scores task_scores =
      humaneval_suite().summarize("turns", std::vector<Scores>{scores, scores});
  EXPECT_DOUBLE_EQ(task_scores.front().second, 75);
  EXPECT_DOUBLE_EQ(task_scores.back().second, 400);
}

TEST(HumanEval, NotesSayWhatFiguresAre) {
  const auto tasks = open(options_for({"humaneval", "context"}, {4096}));
  const auto mentions = [](const Task& task, const std::string& text) {
    const std::vector<std::string> notes = task.notes();
    return std::ranges::any_of(
        notes, [&](const std::string& note) { return note.find(text) != std::string::npos; });
  };
  EXPECT_FALSE(mentions(*tasks[0], "defined by this project"));
  EXPECT_TRUE(mentions(*tasks[1], "defined by this project"));
  EXPECT_TRUE(mentions(*tasks[1], "40 of lcc, 40 of repobench-p, 20 solved problems"));
  EXPECT_EQ(tasks[1]->files().size(), 3U);
}

}  // namespace
}  // namespace restkv::eval
