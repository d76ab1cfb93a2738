// What people type who come from llama.cpp and ollama.
#include "cli/foreign_flags.h"

#include <string>
#include <vector>

#include "cli/argument_parser.h"
#include "cli/cli_test.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> translated(const std::vector<std::string>& words) {
  static std::string text;
  static int tokens = 0;
  static bool flag = false;
  ArgumentParser parser("restkv");
  parser.add("-m,--model,model", text, "", "FILE");
  parser.add("-p,--prompt", text, "", "TEXT");
  parser.add("-n,--max-tokens", tokens, "", "N");
  parser.add("--kv-type", text, "", "f16|q8");
  parser.add("--top-k", tokens, "", "N");
  parser.add_flag("--stats", flag, "");
  return translate_foreign_flags(words, parser);
}

TEST(ForeignFlags, BecomeWhatTheyAreCalledHere) {
  EXPECT_THAT(translated({"--n-predict", "5"}), ElementsAre("--max-tokens", "5"));
  EXPECT_THAT(translated({"--predict=5"}), ElementsAre("--max-tokens=5"));
  EXPECT_THAT(translated({"-ctk", "q8_0", "-ctv", "q8_0"}), ElementsAre("--kv-type", "q8_0"));
  EXPECT_THAT(translated({"--top_k", "5"}), ElementsAre("--top-k", "5"));
}

TEST(ForeignFlags, AreLeftOutWhereTheyHaveNoUse) {
  EXPECT_THAT(translated({"-c", "4096", "-ngl", "99", "-fa", "on", "--mlock", "-n", "5"}),
              ElementsAre("-n", "5"));
  EXPECT_THAT(translated({"-fa", "-p", "x"}), ElementsAre("-p", "x"));
  EXPECT_THAT(translated({"--ctx-size=4096", "x"}), ElementsAre("x"));
}

TEST(ForeignFlags, AreNothingWhereTheyAreValues) {
  EXPECT_THAT(translated({"-p", "-c", "-m", "-ngl"}), ElementsAre("-p", "-c", "-m", "-ngl"));
  EXPECT_THAT(translated({"--", "-c"}), ElementsAre("--", "-c"));
  EXPECT_THAT(translated({"--prompt=-c"}), ElementsAre("--prompt=-c"));
}

TEST(ForeignFlags, ThatWouldChangeAnswersAreRefused) {
  for (const auto& [word, remedy] : {std::pair("--lora", "merge them into the model file"),
                                     {"-i", "restkv chat talks at a terminal"},
                                     {"--keep", "--sinks N"},
                                     {"--prompt-cache", "--save-cache FILE"}}) {
    try {
      translated({word, "x"});
      ADD_FAILURE() << word;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(e.what(), HasSubstr(std::string("there is no option ") + word));
      EXPECT_THAT(e.what(), HasSubstr(remedy));
    }
  }
}

TEST(ForeignFlags, UnknownOnesStay) {
  EXPECT_THAT(translated({"--frobnicate", "x"}), ElementsAre("--frobnicate", "x"));
}

TEST(ForeignFlags, RunAsTheyAreTyped) {
  const TemporaryFolder folder;
  chat_model().write(folder.file("tiny.gguf"));
  const Outcome outcome =
      restkv_process({"run", folder.file("tiny.gguf"), "-c", "4096", "-ngl", "0", "-t", "64",
                      "--n-predict", "3", "--kv-type", "q8_0", "--method", "SnapKV", "-p", "hi"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("restkv: -c 4096 is left out: a context needs no size"));
  EXPECT_THAT(outcome.err, HasSubstr("restkv: -ngl 0 is left out: models run on the processor"));
  EXPECT_THAT(outcome.err, HasSubstr("stopped at --max-tokens 3"));
}

}  // namespace
}  // namespace restkv::cli
