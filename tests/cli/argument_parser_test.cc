#include "cli/argument_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "restkv/error.h"

namespace restkv::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string refusal(ArgumentParser& parser, const std::vector<std::string>& words) {
  try {
    parser.parse(words);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "not refused";
}

TEST(ArgumentParser, NamesTheRangeOfANumber) {
  ArgumentParser parser("program");
  size_t tokens = 0;
  double scale = 1;
  std::vector<int> lengths;
  parser.add("-n,--tokens", tokens, "", "N").range(1, 1 << 30);
  parser.add("--scale", scale, "", "X").range(0.5, 1024);
  parser.add("--lengths", lengths, "", "N,...").range(1, 100);
  for (const char* value : {"-1", "0", "1073741825", "1e3", "x"}) {
    EXPECT_EQ(refusal(parser, {"-n", value}), "--tokens: \"" + std::string(value) +
                                                  "\" is not a whole number from 1 to 1073741824\n"
                                                  "program --help shows what is expected.");
  }
  EXPECT_THAT(refusal(parser, {"--scale", "0.4"}), HasSubstr("is not a number from 0.5 to 1024"));
  EXPECT_THAT(refusal(parser, {"--lengths", "5,101"}), HasSubstr("\"101\" is not a whole number"));
  parser.parse({"-n", "1073741824", "--scale=0.5", "--lengths", "100,1"});
  EXPECT_EQ(tokens, 1073741824U);
  EXPECT_EQ(scale, 0.5);
  EXPECT_THAT(lengths, ElementsAre(100, 1));
}

TEST(ArgumentParser, TakesChoicesOneByOne) {
  ArgumentParser parser("program");
  std::vector<std::string> sides;
  parser.add("--sides", sides, "", "NAME,...").choices({"left", "right"});
  EXPECT_THAT(refusal(parser, {"--sides", "left,up"}),
              HasSubstr("--sides: up not in {left,right}"));
  parser.parse({"--sides", "right,left"});
  EXPECT_THAT(sides, ElementsAre("right", "left"));
}

TEST(ArgumentParser, ReadsRepeatedTextsAsTheyAre) {
  ArgumentParser parser("program");
  std::vector<std::string> files;
  std::vector<std::string> folders;
  parser.add_repeated("-f", files, "", "FILE");
  parser.add_repeated("folders", folders, "", "DIR...");
  parser.parse({"-f", "a,b", "one", "-f", "{}", "two"});
  EXPECT_THAT(files, ElementsAre("a,b", "{}"));
  EXPECT_THAT(folders, ElementsAre("one", "two"));
}

TEST(ArgumentParser, HasOptionsThatMayStandWithoutAValue) {
  std::string stored;
  const auto parse = [&](const std::vector<std::string>& words) {
    ArgumentParser parser("program");
    parser
        .add_callback(
            "--critical", [&](const std::string& text) { stored = text; }, "", "X")
        .implicit_value("true");
    return refusal(parser, words);
  };
  EXPECT_EQ(parse({"--critical"}), "not refused");
  EXPECT_EQ(stored, "true");
  EXPECT_EQ(parse({"--critical", "false"}), "not refused");
  EXPECT_EQ(stored, "false");
  EXPECT_THAT(parse({"--critical", "--critical"}), HasSubstr("is given more than once"));
}

TEST(ArgumentParser, KnowsWhatWasGivenAndTakesTheRestFromElsewhere) {
  ArgumentParser parser("program");
  int given = 1;
  int other = 2;
  bool flag = false;
  const Option& first = parser.add("--given", given, "", "N");
  parser.add("suite", other, "", "N");
  parser.add_flag("--flag", flag, "");
  parser.parse({"--given", "3"});
  EXPECT_TRUE(first.given());
  ASSERT_NE(parser.find("suite"), nullptr);
  EXPECT_FALSE(parser.find("suite")->given());
  EXPECT_EQ(parser.find("nothing"), nullptr);
  parser.find("suite")->set({"4"});
  parser.find("flag")->set({"true"});
  EXPECT_EQ(other, 4);
  EXPECT_TRUE(flag);
  EXPECT_THROW(parser.find("given")->set({"x"}), Error);
}

TEST(ArgumentParser, ChoosesACommand) {
  ArgumentParser parser("program");
  int tokens = 0;
  parser.add_command("run", "Runs").add("--tokens", tokens, "", "N");
  parser.add_command("walk", "Walks");
  EXPECT_EQ(refusal(parser, {"fly"}),
            "there is no command or option fly; commands are run, walk\n"
            "program --help shows what they do.");
  EXPECT_EQ(refusal(parser, {"run", "--tokens", "x", "y"}),
            "--tokens: \"x\" is not a whole number from -2147483648 to 2147483647\n"
            "program run --help shows what is expected.");
  parser.parse({"run", "--tokens", "5"});
  EXPECT_EQ(parser.command(), "run");
  EXPECT_EQ(tokens, 5);
  EXPECT_THAT(parser.parse({"run", "--help"}).value_or(""), HasSubstr("--tokens N=0"));
}

TEST(ArgumentParser, LeavesTheRestToOthers) {
  ArgumentParser parser("program");
  int jobs = 0;
  std::vector<std::string> rest;
  parser.add("--jobs", jobs, "how many", "N").hidden();
  parser.add_rest(rest);
  EXPECT_THAT(parser.parse({"--help"}).value_or("--jobs"), Not(HasSubstr("--jobs")));
  parser.parse({"--jobs", "2", "session", "--jobs", "3"});
  EXPECT_EQ(jobs, 2);
  EXPECT_THAT(rest, ElementsAre("session", "--jobs", "3"));
}

}  // namespace
}  // namespace restkv::cli
