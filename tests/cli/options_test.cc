// Every option of every command, whatever it is called: numbers that are none, and empty values.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/cli_test.h"
#include "cli/command.h"
#include "restkv/error.h"

namespace restkv {
namespace {

struct OptionOf {
  std::string command;
  std::string option;  ///< "--temp"; "" for a positional argument.
  std::string type;    ///< What the help shows as its value.
};

/// All that take a value.
std::vector<OptionOf> all_options() {
  std::vector<OptionOf> list;
  for (const cli::Command& command : cli::commands()) {
    cli::ArgumentParser parser("restkv");
    const auto action = command.declare(parser);
    for (const cli::Option* option : parser.options()) {
      if (!option->takes_value()) continue;
      list.push_back({std::string(command.name), option->is_positional() ? "" : option->name(),
                      option->value_name()});
    }
  }
  return list;
}

/// Values of these types are names or words; all others are numbers, so that a new kind of number
/// is tested by itself.
bool is_number(const std::string& type) {
  static const std::set<std::string> kTexts{"FILE",
                                            "MODEL",
                                            "NAME...",
                                            "DIR",
                                            "DOC",
                                            "PATTERN",
                                            "PATH",
                                            "TEXT",
                                            "NAME",
                                            "NAME,...",
                                            "KIND",
                                            "MODE",
                                            "SUITE",
                                            "TYPE,...",
                                            "PATTERN,...",
                                            "I/N",
                                            "PATTERN[:option=value...]",
                                            "NAME|FILE.json",
                                            "RUN_DIR...",
                                            "ADDRESS",
                                            "KEY",
                                            "ORIGIN",
                                            "METHOD[:option=value...]"};
  const bool words = type.find('|') != std::string::npos && type != "N|auto";
  return !words && !kTexts.contains(type);
}

/// A command line that would go as far as to look for its model, which is not there.
std::vector<std::string> command_line(const OptionOf& of) {
  std::vector<std::string> list{of.command};
  const auto add = [&](const char* name, const char* value) {
    if (of.option != name) list.insert(list.end(), {name, value});
  };
  if (of.command == "run") add("--prompt", "x");
  if (of.command == "ask" && !of.option.empty()) list.emplace_back("/nonexistent/document");
  if (of.command == "calibrate") {
    add("--text", "/nonexistent/texts");
    add("--output", "/nonexistent/statistics");
  }
  if (of.command == "eval") {
    list.emplace_back("niah");
    add("--output", "/nonexistent/run");
  }
  if (of.command == "batch" && !of.option.empty()) {
    list.emplace_back("/nonexistent/requests");
    add("--output", "/nonexistent/answers");
  }
  static const std::set<std::string> kWithoutModel{"inspect", "methods",    "models",
                                                   "report",  "completion", "man"};
  if (!kWithoutModel.contains(of.command)) {
    add("--model", "/nonexistent/model.gguf");
  }
  return list;
}

/// The outcome of the value, found out without a process where parsing refuses it.
int exit_code_of(const OptionOf& of, const std::string& value) {
  std::vector<std::string> list = command_line(of);
  if (!of.option.empty()) list.push_back(of.option);
  list.push_back(value);
  const auto command =
      std::ranges::find(cli::commands(), std::string_view(of.command), &cli::Command::name);
  cli::ArgumentParser parser("restkv");
  const auto action = command->declare(parser);
  try {
    parser.parse({list.begin() + 1, list.end()});
  } catch (const Error&) {
    return 2;
  }
  return restkv_process(list).exit_code;
}

TEST(EveryOption, RefusesNumbersThatAreNone) {
  size_t tested = 0;
  for (const OptionOf& of : all_options()) {
    if (!is_number(of.type)) continue;
    std::vector<const char*> values{"inf", "0x10"};  // `Numbers` has others
    if (of.type.starts_with('N')) values.push_back("99999999999999999999");
    for (const char* value : values) {
      EXPECT_EQ(exit_code_of(of, value), 2) << of.command << " " << of.option << " " << value;
    }
    ++tested;
  }
  EXPECT_GT(tested, 60U);
}

TEST(EveryOption, RefusesAnEmptyValue) {
  for (const OptionOf& of : all_options()) {
    std::vector<std::string> list = command_line(of);
    if (!of.option.empty()) list.push_back(of.option);
    list.emplace_back("");
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << of.command << " " << of.option;
    EXPECT_THAT(outcome.err, HasSubstr("is empty; give a value or leave it out"));
  }
  EXPECT_THAT(restkv_process({"eval", "--tasks=", "longbench"}).err,
              HasSubstr("--tasks= has no value behind it"));
}

TEST(EveryOption, RefusesListsWithEmptyPlacesAndDoubles) {
  size_t tested = 0;
  for (const OptionOf& of : all_options()) {
    if (!of.type.ends_with(",...")) continue;
    const std::string item = is_number(of.type) ? "64" : "full";
    for (const auto& [value, reason] : {std::pair(item + ",", std::string("has an empty place")),
                                        {"," + item, "has an empty place"},
                                        {",", "has an empty place"},
                                        {item + ",," + item, "has an empty place"},
                                        {item + "," + item, "names " + item + " a second time"}}) {
      std::vector<std::string> list = command_line(of);
      list.insert(list.end(), {of.option, value});
      const Outcome outcome = restkv_process(list);
      EXPECT_EQ(outcome.exit_code, 2) << of.command << " " << of.option << " " << value;
      EXPECT_THAT(outcome.err, HasSubstr(fmt::format("{}: \"{}\" {}", of.option, value, reason)));
    }
    if (is_number(of.type)) {  // 064 is 64
      std::vector<std::string> list = command_line(of);
      list.insert(list.end(), {of.option, "64,064"});
      EXPECT_THAT(restkv_process(list).err, HasSubstr("names 064 a second time"));
    }
    ++tested;
  }
  EXPECT_GE(tested, 12U);
}

TEST(EveryOption, StandsOnce) {
  for (const OptionOf& of : all_options()) {
    static const std::set<std::string> kRepeatable{"--file",      "--api-key", "--cors",
                                                   "--host-name", "--stop",    "--glob"};
    if (of.option.empty() || kRepeatable.contains(of.option)) continue;
    if (of.command == "ask" && of.option == "--question") continue;
    if (of.command == "calibrate" && of.option == "--text") continue;
    if (of.type.ends_with(",...")) continue;
    std::vector<std::string> list = command_line(of);
    static const std::map<std::string, std::string> kOneOf{{"--sandbox", "full"},
                                                           {"--profile", "restkv"},
                                                           {"--choices", "joint"},
                                                           {"--question", "after"},
                                                           {"--prompt-share", "0.5"}};
    const auto one = kOneOf.find(of.option);
    const std::string value = one != kOneOf.end() ? one->second : is_number(of.type) ? "1" : "x";
    std::erase(list, "x");  // the prompt that command_line gives
    std::erase(list, "--prompt");
    list.insert(list.end(), {of.option, value, of.option, value});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << of.command << " " << of.option;
    EXPECT_THAT(outcome.err, HasSubstr(of.option + " is given more than once; give it once"));
  }
}

TEST(Options, OfMethodsAndPatternsStandOnce) {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"bench", "--method", "snapkv:kernel=5:kernel=7"},
           {"demo", "--methods", "snapkv:kernel=5:kernel=7"},
           {"eval", "niah", "-o", "/nonexistent/run", "--method", "snapkv:kernel=5:kernel=7"},
           {"run", "-p", "x", "--sparse", "xattention:stride=8:stride=16"}}) {
    std::vector<std::string> list = more;
    list.insert(list.end(), {"-m", "/nonexistent"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("is repeated; give it once"));
  }
}

// Each would be measured with another budget than its name says.
TEST(Options, OfMethodsHoldNoBudgetWhereAllShareOne) {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"bench", "--method", "snapkv:budget=64"},
           {"demo", "--methods", "snapkv:budget=64"},
           {"eval", "niah", "-o", "/nonexistent/run", "--method", "snapkv:budget=64"}}) {
    std::vector<std::string> list = more;
    list.insert(list.end(), {"-m", "/nonexistent"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("gives a budget"));
  }
  EXPECT_THAT(
      restkv_process({"run", "-m", "x", "-p", "x", "--method", "full", "--budget", "64"}).err,
      HasSubstr("--budget has no effect on method full, which keeps everything"));
}

TEST(Options, ThatOthersOverrideAreMentioned) {
  TemporaryFolder folder;
  chat_model().write(folder.file("model.gguf"));
  const auto said = [&](std::vector<std::string> list) {
    list.insert(list.begin(), {"run", "-m", folder.file("model.gguf"), "-p", "hi", "-n", "1"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.err;
  };
  const auto mention = [](const char* option, const char* beside) {
    return HasSubstr(fmt::format("restkv: {} has no effect beside {}\n", option, beside));
  };
  EXPECT_THAT(said({"--temporal", "mean", "--alpha", "0.2"}),
              mention("--alpha", "--temporal mean"));
  EXPECT_THAT(said({"--indicator", "attention", "--tau", "2"}),
              mention("--tau", "--indicator attention"));
  EXPECT_THAT(said({"--normalize", "true"}), mention("--normalize", "--order after"));
  EXPECT_THAT(said({"--pooling", "none", "--kernel", "5"}), mention("--kernel", "--pooling none"));
  EXPECT_THAT(said({"--pyramid-beta", "3"}), mention("--pyramid-beta", "--allocation uniform"));
  EXPECT_THAT(said({"--profile", "x.json"}), mention("--profile", "--allocation uniform"));
  EXPECT_THAT(said({"--critical-ratio", "0.2"}), mention("--critical-ratio", "--critical false"));
  EXPECT_THAT(said({"--method", "full", "--decode-interval", "8"}),
              HasSubstr("--decode-interval has no effect on method full"));
  EXPECT_THAT(said({"--method", "full", "--preset", "paper"}),
              HasSubstr("--preset has no effect on method full"));
  EXPECT_THAT(said({"--alpha", "0.2", "--tau", "2", "--kernel", "7"}), Not(HasSubstr("effect")));
  const Outcome unseen = restkv_process({"run", "-m", folder.file("model.gguf"), "-p", "hi",
                                         "--sparse", "sampled", "--sparse-recall"});
  EXPECT_EQ(unseen.exit_code, 2);
  EXPECT_THAT(unseen.err, HasSubstr("--sparse-recall is shown by --stats"));
}

TEST(Options, HaveBoundsThatTheirCostAsksFor) {
  const auto refusal = [](std::vector<std::string> list) {
    list.insert(list.begin(), {"run", "-m", "/nonexistent", "-p", "x"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refusal({"--kernel", "999999999"}), HasSubstr("kernel is 999999999"));
  EXPECT_THAT(refusal({"--method", "expected-attention", "--future", "2147483647"}),
              HasSubstr("future is 2147483647; expected 1 to 65536"));
  EXPECT_THAT(refusal({"--rope-scaling", "yarn"}), HasSubstr("needs --rope-scale X"));
}

TEST(Options, ThatAreUnknownStandInOrder) {
  EXPECT_THAT(restkv_process({"run", "-m", "x", "-p", "x", "--metod", "snapkv"}).err,
              HasSubstr("unexpected: --metod snapkv (did you mean --method?)\n"));
}

TEST(Seeds, AreRefusedWhereNothingIsDrawn) {
  const auto refusal = [](std::vector<std::string> list) {
    list.insert(list.end(), {"-m", "/nonexistent", "--seed", "7"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refusal({"bench", "--synthetic"}), HasSubstr("--seed is for the generated stories"));
  EXPECT_THAT(refusal({"bench", "--text", "x"}), HasSubstr("--seed is for the generated stories"));
  for (const char* suite : {"longbench", "perplexity", "prompts", "glue"}) {
    TemporaryFolder folder;
    EXPECT_THAT(refusal({"eval", suite, "-o", folder.file("run")}),
                HasSubstr("--seed has no effect on the suite"));
  }
}

TEST(Numbers, AreDecimalAndInRange) {
  const auto refusal = [](std::vector<std::string> more) {
    std::vector<std::string> list{"run", "-m", "/nonexistent", "-p", "x"};
    list.insert(list.end(), more.begin(), more.end());
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refusal({"--temp", "inf"}), HasSubstr("--temp: \"inf\" is not a (finite) number"));
  for (const char* value : {"nan", "-inf", "1e309", "0x10", "5x"}) {
    EXPECT_THAT(refusal({"--temp", value}), HasSubstr("is not a (finite) number"));
  }
  for (const char* value : {"1e3", "0x10", "5x", "99999999999999999999"}) {
    EXPECT_THAT(refusal({"--seed", value}), HasSubstr("is not a whole number"));
  }
  EXPECT_THAT(refusal({"--seed", "-1"}),
              HasSubstr("--seed: \"-1\" is not a whole number from 0 to 4294967295"));
  // libllama would take it for any seed, another one in every run.
  EXPECT_THAT(refusal({"--temp", "1", "--seed", "4294967295"}), HasSubstr("seed is 4294967295"));
  for (const char* option : {"--presence-penalty", "--frequency-penalty"}) {
    EXPECT_THAT(refusal({option, "1e30"}), HasSubstr("expected a value from -1000000 to 1000000"));
  }
  EXPECT_THAT(refusal({"--temp", "1e-30"}), HasSubstr("expected 0, or a value from 0.000001"));
  EXPECT_THAT(refusal({"--repeat-penalty", "0"}), HasSubstr("repeat_penalty is 0"));
  EXPECT_THAT(refusal({"--sparse", "flexprefill:tau=nan"}), HasSubstr("tau is \"nan\""));
  EXPECT_THAT(refusal({"--sparse", "xattention:stride="}), HasSubstr("stride is \"\""));
  // Ten, not eight.
  EXPECT_THAT(refusal({"--max-tokens", "010", "--budget", "032"}), HasSubstr("budget 32 leaves"));
  const Outcome bench =
      restkv_process({"bench", "-m", "/nonexistent", "--method", "restkv:kernel=5:alpha=nan"});
  EXPECT_EQ(bench.exit_code, 2);
  EXPECT_THAT(bench.err, HasSubstr("alpha is \"nan\"; expected a (finite) number"));
  EXPECT_THAT(refusal({"--temp", "1e-300"}), HasSubstr("of single precision"));
  EXPECT_THAT(refusal({"--budget", "18446744073709551615"}), HasSubstr("to 2147483647"));
}

TEST(OutputFolders, AreNotStandardOutput) {
  for (const char* command : {"demo", "eval", "report"}) {
    std::vector<std::string> list{command, "-o", "-"};
    if (std::string_view(command) != "report") list.insert(list.end(), {"-m", "/nonexistent"});
    if (std::string_view(command) != "demo") list.emplace_back("niah");
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("--output cannot write to standard output"));
  }
  const Outcome two = restkv_process({"bench", "-m", "/nonexistent", "--json", "-", "--csv", "-"});
  EXPECT_EQ(two.exit_code, 2);
  EXPECT_THAT(two.err, HasSubstr("--json and --csv cannot both be -"));
}

}  // namespace
}  // namespace restkv
