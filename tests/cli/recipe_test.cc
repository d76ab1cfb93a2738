// `restkv eval --recipe`: every recipe of the program on a real model, and recipes of one's own.
#include "eval/recipe.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"
#include "eval/results.h"

namespace restkv::eval {

/// What stands in the names of tests.
void PrintTo(const Recipe& recipe, std::ostream* out) { *out << recipe.name; }

}  // namespace restkv::eval

namespace restkv {
namespace {

/// What makes a recipe of a suite small: short prompts, few tasks, short answers.
std::vector<std::string> small(const std::string& suite) {
  if (suite == "ruler") return {"--lengths", "384", "--tasks", "niah_single_1"};
  if (suite == "niah") return {"--lengths", "512"};
  if (suite == "anli") return {"--tasks", "anli_r1_dev", "--shots", "1"};
  return {"--tasks", "hotpotqa"};
}

class EveryRecipe : public ::testing::TestWithParam<eval::Recipe> {};

TEST_P(EveryRecipe, RunsAndIsReported) {
  const TemporaryFolder folder;
  const std::string run = folder.file("run");
  std::vector<std::string> arguments{"eval",
                                     "--recipe",
                                     GetParam().name,
                                     "-m",
                                     test_model_path(),
                                     "--data",
                                     std::string(RESTKV_TEST_DATA_DIR) + "/suites",
                                     "--budget",
                                     "64",
                                     "--limit",
                                     "1",
                                     "-o",
                                     run};
  const auto more = small(GetParam().options.at("suite").get<std::string>());
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = restkv_process(arguments);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;

  const auto settings = eval::read_run(run).at("settings");
  EXPECT_EQ(settings.at("recipe").at("name"), GetParam().name);
  EXPECT_EQ(settings.at("benchmark"), GetParam().options.at("suite").get<std::string>());
  std::vector<std::string> methods;
  for (const auto& cell : settings.at("cells")) methods.push_back(cell.at("method").text());
  auto expected = GetParam().options.at("method").get<std::vector<std::string>>();
  expected.insert(expected.begin(), "full");
  EXPECT_EQ(methods, expected);
  const std::vector<eval::SampleResult> results = eval::read_results(run);
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].error, "");
  EXPECT_EQ(results[0].cells.size(), methods.size());

  const Outcome report = restkv_process({"report", run});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(report.out, HasSubstr(GetParam().title));
  for (const std::string& method : methods) EXPECT_THAT(report.out, HasSubstr(method));
}

INSTANTIATE_TEST_SUITE_P(Recipes, EveryRecipe,
                         ::testing::ValuesIn(eval::recipes().begin(), eval::recipes().end()),
                         [](const auto& of) { return of.param.name; });

class OwnRecipe : public ::testing::Test {
 protected:
  OwnRecipe() {
    chat_model().write(model_);
    std::ofstream data(data_);
    for (const char* word : {"one", "two", "three"}) {
      std::string text;
      for (size_t i = 0; i < 60; ++i) text += fmt::format("{} {} ", word, i);
      data << Json{{"text", text}, {"answers", {"1"}}, {"max_new_tokens", 2}}.dump() << '\n';
    }
  }
  [[nodiscard]] Outcome run(const Json& recipe, const std::vector<std::string>& more = {}) const {
    std::ofstream(file_) << recipe.dump(2);
    std::vector<std::string> arguments{"eval",   "--recipe", file_, "-m", model_,
                                       "--data", data_,      "-o",  run_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return restkv_process(arguments);
  }
  [[nodiscard]] std::string refusal(const Json& recipe) const {
    const Outcome outcome = run(recipe);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(run_));
    return outcome.err;
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
  std::string data_ = folder_.file("data.jsonl");
  std::string file_ = folder_.file("mine.json");
  std::string run_ = folder_.file("run");
  Json recipe_ = {{"title", "Mine"},  {"suite", "prompts"}, {"method", "snapkv:kernel=7"},
                  {"budget", {48}},   {"limit", 1},         {"no-full", true},
                  {"kv-type", "f32"}, {"max-prompt", 4000}};
};

TEST_F(OwnRecipe, GivesOptionsTheirValues) {
  const Outcome outcome = run(recipe_);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto settings = eval::read_run(run_).at("settings");
  EXPECT_EQ(settings.at("recipe").at("name"), file_);
  EXPECT_EQ(settings.at("limit"), 1);
  EXPECT_EQ(settings.at("kv_type"), "f32");
  ASSERT_EQ(settings.at("cells").size(), 1U);
  EXPECT_EQ(settings.at("cells")[0].at("name"), "snapkv:kernel=7@48");
}

TEST_F(OwnRecipe, GivesWayToTheCommandLine) {
  const Outcome outcome =
      run(recipe_, {"--limit", "2", "--budget", "64", "--method", "tova,knorm"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto settings = eval::read_run(run_).at("settings");
  EXPECT_EQ(settings.at("limit"), 2);
  ASSERT_EQ(settings.at("cells").size(), 2U);
  EXPECT_EQ(settings.at("cells")[0].at("name"), "tova@64");
  EXPECT_EQ(settings.at("kv_type"), "f32") << "what the command line does not name stays";
}

TEST_F(OwnRecipe, NamesWhatCannotBe) {
  const auto with = [&](const char* key, const Json& value) {
    Json recipe = recipe_;
    recipe[key] = value;
    std::string message = refusal(recipe);
    EXPECT_THAT(message, HasSubstr(fmt::format("recipe {}: ", file_)));
    return message;
  };
  EXPECT_THAT(with("budgets", {64}), HasSubstr("key 'budgets' is no option of restkv eval"));
  EXPECT_THAT(with("b", 64), HasSubstr("key 'b' is no option"));
  for (const char* key :
       {"model", "m", "output", "allow-code-execution", "sandbox", "recipe", "help"}) {
    EXPECT_THAT(with(key, "x"), HasSubstr(fmt::format("key '{}' ", key)));
  }
  EXPECT_THAT(with("allow-code-execution", true), HasSubstr("give it on the command line"));
  EXPECT_THAT(with("limit", "many"), HasSubstr("key 'limit' is \"many\""));
  EXPECT_THAT(with("limit", {1, 2}),
              HasSubstr("key 'limit' is [1,2]; expected a text or a number"));
  EXPECT_THAT(with("limit", nullptr), HasSubstr("key 'limit' is null"));
  EXPECT_THAT(with("no-full", "yes"), HasSubstr("expected true or false"));
  EXPECT_THAT(with("seed", true), HasSubstr("key 'seed' is true"));
  EXPECT_THAT(with("budget", {64, true}), HasSubstr("key 'budget' is [64,true]"));
  EXPECT_THAT(with("budget", Json::array()), HasSubstr("key 'budget' is []"));
  EXPECT_THAT(with("budget", {64.5}), HasSubstr("the budget is \"64.5\""));
  EXPECT_THAT(with("profile", "mine"), HasSubstr("key 'profile' is \"mine\""));
  EXPECT_THAT(with("method", "none"), HasSubstr("none"));
  EXPECT_THAT(with("suite", "none"), HasSubstr("there is no benchmark suite 'none'"));
}

TEST_F(OwnRecipe, NamesAMissingFileAndAnUnknownRecipe) {
  const Outcome missing = restkv_process({"eval", "--recipe", folder_.file("absent.json")});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr(folder_.file("absent.json")));
  const Outcome unknown = restkv_process({"eval", "--recipe", "none"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("there is no recipe 'none'; known: "));
}

TEST(RecipeList, ShowsAllOfThemAndWhatOneHolds) {
  const Outcome all = restkv_process({"eval", "--list"});
  for (const eval::Recipe& recipe : eval::recipes()) {
    EXPECT_THAT(all.out, ::testing::ContainsRegex(fmt::format("\n  {} +[A-Z]", recipe.name)));
    EXPECT_THAT(all.out, HasSubstr(recipe.title));
  }
  const Outcome one = restkv_process({"eval", "--list", "--recipe", "indicator"});
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(parse_json(one.out).at("suite"), "ruler");
}

}  // namespace
}  // namespace restkv
