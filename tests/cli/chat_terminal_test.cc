// `restkv chat` as a person uses it: at a terminal.

#include <string>
#include <vector>

#include "cli/cli_test.h"
#include "cli/terminal.h"

namespace restkv {
namespace {

using ::restkv::testing::Terminal;

constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlD = "\x04";
constexpr const char* kUp = "\x1b[A";
constexpr const char* kLeft = "\x1b[D";

TEST(CliChatTerminal, EditsRecallsStopsAndEnds) {
  TemporaryFolder folder;
  chat_model(32768).write(folder.file("tiny.gguf"));
  Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "--budget", "64", "-n",
                     "30000", "--temp", "1", "--decode-interval", "16"});
  terminal.wait_for("/help lists");
  terminal.wait_for("> ");

  // A typing error is mended in the middle of the line.
  terminal.type(std::string("/stasx") + "\x08" + kLeft + "t\r");
  terminal.wait_for("tokens in all          0");
  terminal.wait_for("> ");

  // Ctrl-C stops an answer, and only that.
  terminal.type("Hello.\r");
  terminal.wait_for("Hello.\r\n");
  terminal.wait_for(" ");  // of the answer, which would go on for long
  terminal.type(kCtrlC);
  terminal.wait_for("[turn 1: read");
  terminal.wait_for("> ");

  // At the prompt it empties the line; lines typed before can be recalled.
  terminal.type(std::string("/nonsense") + kCtrlC + "/budget 40\r");
  EXPECT_THAT(terminal.wait_for("\nbudget 40"), Not(HasSubstr("there is no command")));
  terminal.wait_for("> ");
  terminal.type(std::string(kUp) + kUp + kUp + "\r");
  terminal.wait_for("(budget 40)");
  terminal.wait_for("peak resident memory");
  terminal.wait_for("> ");

  const std::string file = folder.file("chat.rkv");
  terminal.type("/save " + file + "\r");
  terminal.wait_for("saved in");
  terminal.type("/reset\r");
  terminal.wait_for("everything is forgotten");
  terminal.type("/load " + file + "\r");
  terminal.wait_for("with budget 40");
  terminal.wait_for("> ");
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace restkv
