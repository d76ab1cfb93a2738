#include "eval/suites/code/code_problem.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "eval/suites/code_test_data.h"
#include "restkv/error.h"
#include "sandbox/sandbox.h"

namespace restkv::eval {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Sandbox& sandbox() {
  static const Sandbox kSandbox;
  return kSandbox;
}

/// Patient: other programs run beside the tests.
const SandboxLimits kLimits{.wall = std::chrono::seconds(20)};

std::vector<CodeProblem> read_problems(const std::filesystem::path& file) {
  std::vector<CodeProblem> problems;
  for (const Json& record : test::read_jsonl(file)) {
    problems.push_back(code_problem(record));
  }
  return problems;
}

void expect_solutions_pass(const std::vector<CodeProblem>& problems) {
  for (const CodeProblem& problem : problems) {
    const SandboxResult result =
        sandbox().run(assemble(harness_of(problem), problem.solution), kLimits);
    EXPECT_TRUE(result.passed()) << problem.id << ": " << result.message;
  }
}

/// How many problems have a helper. Each passes with it, and not without it.
size_t check_helpers(const std::vector<CodeProblem>& problems) {
  size_t found = 0;
  for (const CodeProblem& problem : problems) {
    Random random(3);
    const auto helper = take_helper(problem, random);
    if (!helper) continue;
    ++found;
    const std::string definition = fmt::format("def {}(", helper->name);
    EXPECT_THAT(helper->source, HasSubstr(definition));
    EXPECT_THAT(helper->rest.prompt, Not(HasSubstr(definition)));
    EXPECT_THAT(helper->rest.solution, Not(HasSubstr(definition)));
    EXPECT_THAT(helper->rest.solution + helper->rest.prompt, HasSubstr(helper->name));

    const Harness harness = harness_of(*helper, "some_file");
    const std::string import = fmt::format("    from some_file import {}\n", helper->name);
    const SandboxResult with =
        sandbox().run(assemble(harness, import + helper->rest.solution), kLimits);
    EXPECT_TRUE(with.passed()) << problem.id << ": " << with.message;
    if (helper->rest.solution.find(helper->name) == std::string::npos) continue;
    const SandboxResult without = sandbox().run(assemble(harness, helper->rest.solution), kLimits);
    EXPECT_THAT(without.message, HasSubstr("NameError")) << problem.id;
  }
  return found;
}

TEST(CodeProblem, GoldenExecutionsAgree) {
  std::map<std::string, CodeProblem> problems;
  for (CodeProblem& problem : read_problems(test::small_humaneval())) {
    problems[problem.id] = problem;
  }
  const auto folder = test::small_humaneval().parent_path();
  for (const Json& execution : test::read_jsonl(folder / "executions.jsonl")) {
    const auto completion = execution.at("completion").get<std::string>();
    const bool endless = execution.at("result") == "timed out";
    const SandboxLimits published{.wall = std::chrono::seconds(2)};
    const SandboxResult result =
        sandbox().run(assemble(harness_of(problems.at(execution.at("task_id").text())), completion),
                      endless ? published : kLimits);
    EXPECT_EQ(result.passed(), execution.at("passed").get<bool>()) << execution << result.message;
    EXPECT_EQ(result.outcome == SandboxResult::Outcome::kTimedOut, endless) << execution;
  }
}

TEST(CodeProblem, SolutionsPass) { expect_solutions_pass(read_problems(test::small_humaneval())); }

TEST(CodeProblem, AllPublishedSolutionsPass) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const auto problems = read_problems(data / "humaneval" / "HumanEval.jsonl");
  EXPECT_EQ(problems.size(), 164U);
  expect_solutions_pass(problems);
}

TEST(CodeProblem, NothingAndAnErrorFail) {
  std::vector<CodeProblem> problems = read_problems(test::small_humaneval());
  problems.resize(8);
  for (const CodeProblem& problem : problems) {
    for (const char* completion : {"    raise ValueError()\n", "    return ()\n"}) {
      EXPECT_FALSE(sandbox().run(assemble(harness_of(problem), completion), kLimits).passed())
          << problem.id << completion;
    }
  }
}

TEST(CodeProblem, HelpersCanBeImported) {
  // 6, 11, 39, 75, 94 and 108 have one in the solution; 10, 32, 38 and 50 in the prompt.
  EXPECT_EQ(check_helpers(read_problems(test::small_humaneval())), 10U);
}

TEST(CodeProblem, AllPublishedHelpersCanBeImported) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  EXPECT_EQ(check_helpers(read_problems(data / "humaneval" / "HumanEval.jsonl")), 15U);
}

TEST(CodeProblem, RecordsMustBeComplete) {
  const Json whole = test::read_jsonl(test::small_humaneval()).front();
  for (const char* name : {"task_id", "prompt", "entry_point", "canonical_solution", "test"}) {
    Json record = whole;
    record.erase(name);
    try {
      (void)code_problem(record);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInput);
      EXPECT_THAT(error.what(), HasSubstr(name));
    }
  }
}

TEST(Defines, FindsDefinitionsAndNoCalls) {
  for (const char* text : {
           "def solve(x):",
           "    def solve(x):",
           "async def  solve (x):",
           "class solve:",
           "solve = lambda x: x",
           "  solve=3",
           "int solve(int a) {",
           "    public static List<int> solve(\n        int a)",
           "function solve(a) {",
           "x = 1\n\ndef solve():",
       }) {
    EXPECT_TRUE(defines(text, "solve")) << text;
  }
  for (const char* text : {
           "",
           "solve(3)",
           "x = solve(3)",
           "    print(solve(3))",
           "self.solve = 3",
           "it.solve(3)",
           "def solver(x):",
           "def resolve(x):",
           "def _solve(x):",
           "solve == 3",
           "# how to solve it",
       }) {
    EXPECT_FALSE(defines(text, "solve")) << text;
  }
}

}  // namespace
}  // namespace restkv::eval
