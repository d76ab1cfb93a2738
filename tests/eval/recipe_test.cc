#include "eval/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "eval/suite.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::restkv::testing::TemporaryFolder;
using ::testing::HasSubstr;

TEST(Recipes, HoldTheAblationsAndComparisonsOfThePaper) {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) names.push_back(recipe.name);
  EXPECT_TRUE(std::ranges::is_sorted(names));
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"indicator", "temporal", "alpha", "spatial", "beta", "order",
                                       "gqa", "budgets", "niah", "ruler", "longbench"}));
}

TEST(Recipes, SayWhatTheyAskAndAskWhatSuitesHave) {
  for (const Recipe& recipe : recipes()) {
    SCOPED_TRACE(recipe.name);
    EXPECT_NE(recipe.title, "");
    EXPECT_NE(recipe.question, "");
    EXPECT_NE(recipe.source, "");
    const Suite& suite = find_suite(recipe.options.at("suite").get<std::string>());
    const std::vector<TaskInfo> known = suite.tasks();
    for (const std::string& task :
         recipe.options.value("tasks", Json::array()).get<std::vector<std::string>>()) {
      EXPECT_TRUE(std::ranges::any_of(known, [&](const auto& t) { return t.name == task; }))
          << task;
    }
    EXPECT_GE(recipe.options.at("method").size(), 2U) << "nothing is compared";
  }
}

TEST(Recipes, ComeFromFilesToo) {
  const TemporaryFolder folder;
  const std::string path = folder.file("mine.json");
  std::ofstream(path) << R"({"title": "Mine", "suite": "niah",
                             "budget": [64]})";
  const Recipe recipe = find_recipe(path);
  EXPECT_EQ(recipe.name, path);
  EXPECT_EQ(recipe.title, "Mine");
  EXPECT_EQ(recipe.question, "");
  EXPECT_EQ(recipe.options, (Json{{"suite", "niah"}, {"budget", {64}}}));
}

TEST(Recipes, CanBeWrittenToAFileAndReadAgain) {
  const TemporaryFolder folder;
  const std::string path = folder.file("copy.json");
  const Recipe recipe = find_recipe("indicator");
  std::ofstream(path) << to_json(recipe).dump(2);
  const Recipe copy = find_recipe(path);
  EXPECT_EQ(copy.title, recipe.title);
  EXPECT_EQ(copy.question, recipe.question);
  EXPECT_EQ(copy.source, recipe.source);
  EXPECT_EQ(copy.options, recipe.options);
}

TEST(Recipes, RefuseWhatIsNone) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& content) {
    const std::string path = folder.file("bad.json");
    std::ofstream(path) << content;
    std::string message = restkv::testing::refusal(ErrorCode::kInput, [&] { find_recipe(path); });
    EXPECT_THAT(message, HasSubstr(path + ":"));
    return message;
  };
  EXPECT_THAT(refusal("{\n\"title\": \"x\",\n}"), HasSubstr("bad.json:3: parse error"));
  EXPECT_THAT(refusal("[]"), HasSubstr("expected an object with field 'title', not []"));
  EXPECT_THAT(refusal("{}"), HasSubstr("field 'title' is missing"));
  EXPECT_THAT(refusal(R"({"title": 5})"), HasSubstr("field 'title' must be a text, not 5"));
  EXPECT_THAT(refusal(R"({"title": "x", "question": []})"),
              HasSubstr("field 'question' must be a text"));
  EXPECT_THROW(find_recipe(folder.file("absent.json")), Error);
  const std::string unknown =
      restkv::testing::refusal(ErrorCode::kInvalidArgument, [] { find_recipe("none"); });
  EXPECT_THAT(unknown, HasSubstr("there is no recipe 'none'; known: "));
  EXPECT_THAT(unknown, HasSubstr("indicator"));
}

}  // namespace
}  // namespace restkv::eval
