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

TEST(ArgumentParser, ShowsWhatFewPeopleNeedWhenAskedForAll) {
  ArgumentParser parser("program");
  ArgumentParser& run = parser.add_command("run", "Runs");
  parser.add_command("walk", "Walks");
  int tokens = 0;
  double tau = 1;
  int job = 0;
  run.add("--tokens", tokens, "how many", "N");
  run.begin_group("Others");
  run.add("--tau", tau, "what", "X").rare();
  run.add("--job", job, "internal", "N").hidden();
  const std::string usual = parser.parse({"run", "--help"}).value_or("");
  EXPECT_THAT(usual, HasSubstr("--tokens N=0"));
  EXPECT_THAT(usual, Not(HasSubstr("--tau")));
  EXPECT_THAT(usual, HasSubstr("1 more options: program run --help-all\n"));
  const std::string all = parser.parse({"run", "--help-all"}).value_or("");
  EXPECT_THAT(all, HasSubstr("Others:"));
  EXPECT_THAT(all, HasSubstr("--tau X=1"));
  EXPECT_THAT(all, Not(HasSubstr("--job")));
  // The same once more, and with a rare option given.
  EXPECT_EQ(parser.parse({"run", "--help"}).value_or(""), usual);
  parser.parse({"run", "--tau", "2"});
  EXPECT_EQ(tau, 2);
  EXPECT_THAT(refusal(parser, {"walk", "--help-all"}), HasSubstr("unexpected: --help-all"));
}

TEST(ArgumentParser, GuessesWhatWasMeant) {
  ArgumentParser parser("program");
  ArgumentParser& run = parser.add_command("run", "Runs");
  parser.add_command("walk", "Walks");
  std::string model;
  int job = 0;
  run.add("-m,--model", model, "", "FILE").required();
  run.add("--hidden", job, "", "N").hidden();
  EXPECT_THAT(refusal(parser, {"rnu"}),
              HasSubstr("there is no command or option rnu (did you mean run?); commands are"));
  EXPECT_THAT(refusal(parser, {"run", "-m", "x", "--modle=y"}),
              HasSubstr("unexpected: --modle=y (did you mean --model?)"));
  // What is missing may be what is misspelt.
  EXPECT_THAT(refusal(parser, {"run", "--modle=y"}), HasSubstr("(did you mean --model?)"));
  EXPECT_THAT(refusal(parser, {"run"}), HasSubstr("--model is required"));
  EXPECT_THAT(refusal(parser, {"run", "-m", "x", "--hiden"}), Not(HasSubstr("did you mean")));
}

TEST(ArgumentParser, KnowsAFirstWordByItsLooks) {
  std::string model;
  std::string prompt;
  const auto parse = [&](const std::vector<std::string>& words) {
    model.clear();
    prompt.clear();
    ArgumentParser parser("program");
    const Option& option =
        parser.add("-m,--model", model, "", "FILE")
            .first_word("model", [](const std::string& word) { return word.ends_with(".gguf"); })
            .required();
    parser.add("-p,--prompt,prompt", prompt, "", "TEXT");
    bool flag = false;
    parser.add_flag("--flag", flag, "");
    EXPECT_EQ(option.name(), "--model");
    EXPECT_FALSE(option.is_positional());
    EXPECT_EQ(option.position_name(), "model");
    EXPECT_THAT(option.names(), ElementsAre("-m", "--model"));
    return refusal(parser, words);
  };
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"a.gguf", "b"},
                                             {"--flag", "a.gguf", "b"},
                                             {"-m", "a.gguf", "b"},
                                             {"a.gguf", "-p", "b"},
                                             {"-p", "b", "a.gguf"},
                                             {"-pb", "a.gguf"},
                                             {"--prompt=b", "a.gguf"},
                                             {"b", "-m", "a.gguf"},
                                             {"b", "--model=a.gguf"}}) {
    EXPECT_EQ(parse(words), "not refused");
    EXPECT_EQ(model, "a.gguf");
    EXPECT_EQ(prompt, "b");
  }
  EXPECT_THAT(parse({"a.gguf", "b", "c"}), HasSubstr("unexpected: c"));
  EXPECT_THAT(parse({"-m", "a", "-m", "b"}), HasSubstr("--model is given more than once"));
  EXPECT_THAT(parse({"b"}), HasSubstr("--model is required"));
  EXPECT_EQ(parse({"-m", "a", "b.gguf"}), "not refused");  // a prompt, since there is a model
  EXPECT_EQ(prompt, "b.gguf");
  EXPECT_THAT(parse({"-p", "a.gguf"}), HasSubstr("--model is required"));  // here it is a value
}

TEST(ArgumentParser, TakesWhatStandsWithAndWithoutItsName) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"a"}, {"-m", "a"}, {"--model=a"}}) {
    std::string model;
    ArgumentParser parser("program");
    const Option& option = parser.add("-m,--model,model", model, "", "FILE").required();
    EXPECT_FALSE(option.is_positional());
    EXPECT_EQ(option.position_name(), "model");
    EXPECT_EQ(refusal(parser, words), "not refused");
    EXPECT_EQ(model, "a");
  }
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
