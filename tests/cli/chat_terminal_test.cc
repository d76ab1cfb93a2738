// `restkv chat` as a person uses it: at a terminal.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
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
  // (What switches pastes off stands between.)
  EXPECT_THAT(terminal.wait_for("\x1b[?2004lbudget 40"), Not(HasSubstr("there is no command")));
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

/// Nothing that happens after Ctrl-C may end the program: there would be no conversation any more.
/// All that comes through a pipe; what there is after a minute, should its writer be gone.
std::string read_pipe(const std::string& path) {
  const Descriptor pipe{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  std::string text;
  std::array<char, 4096> block;
  for (int waits = 0; waits < 6000;) {
    const ssize_t got = ::read(pipe.get(), block.data(), block.size());
    if (got > 0) {
      text.append(block.data(), static_cast<size_t>(got));
    } else if (got == 0 && !text.empty()) {
      return text;
    } else {
      ++waits;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  return text;
}

TEST(CliChatTerminal, CtrlCWhileACommandRunsLosesNothing) {
  TemporaryFolder folder;
  chat_model().write(folder.file("tiny.gguf"));
  Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "-n", "4"});
  terminal.wait_for("> ");
  terminal.type("Hello.\r");
  terminal.wait_for("[turn 1: read");
  terminal.wait_for("> ");
  // Saving into a pipe takes until somebody reads it.
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  terminal.type("/save " + pipe + "\r");
  terminal.wait_for("pipe\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  for (int i = 0; i < 3; ++i) {
    terminal.type(kCtrlC);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_THAT(read_pipe(pipe), StartsWith("rkv-snap"));
  terminal.wait_for("saved in");
  terminal.wait_for("> ");
  terminal.type("Who are you?\r");  // the Ctrl-C of the command does not stop the next answer
  terminal.wait_for("[turn 2: read");
  terminal.wait_for("> ");
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.wait(), 0);
}

TEST(CliChatTerminal, LinesThatArePastedAreOneMessage) {
  TemporaryFolder folder;
  chat_model().write(folder.file("tiny.gguf"));
  Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "-n", "4"});
  terminal.wait_for("> ");
  terminal.type("Explain \x1b[200~caf\u00E9 {\r\treturn;\r}\r\x1b[201~ please\r");
  terminal.wait_for("[pasted 3 lines] please");
  terminal.wait_for("[turn 1: read");
  terminal.wait_for("> ");
  terminal.type("\x1b[200~one line\x1b[201~ more\r");
  terminal.wait_for("one line more");
  terminal.wait_for("[turn 2: read");
  terminal.wait_for("> ");
  const std::string file = folder.file("chat.rkv");
  terminal.type("/save " + file + "\r");
  terminal.wait_for("saved in");
  terminal.wait_for("> ");
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.wait(), 0);
  const std::string saved = read_file(file);
  EXPECT_THAT(saved, HasSubstr("Explain caf\u00E9 {\\n\\treturn;\\n} please"));
  EXPECT_THAT(saved, HasSubstr("one line more"));
}

TEST(CliChatTerminal, TheLastMessageIsChangedInAnEditor) {
  TemporaryFolder folder;
  chat_model().write(folder.file("tiny.gguf"));
  ASSERT_EQ(setenv("VISUAL", "sed -i s/rivers/mountains/", 1), 0);
  Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "-n", "4"});
  unsetenv("VISUAL");
  terminal.wait_for("> ");
  terminal.type("Tell me about rivers.\r");
  terminal.wait_for("[turn 1: read");
  terminal.wait_for("> ");
  terminal.type("/edit\r");
  terminal.wait_for("> Tell me about mountains.");
  terminal.wait_for("[turn 1: read");
  terminal.wait_for("> ");
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.wait(), 0);
}

TEST(CliChatTerminal, KeepsEveryCharacterInAnyLocale) {
  TemporaryFolder folder;
  chat_model().write(folder.file("tiny.gguf"));
  for (const char* locale : {"C", "xx", "C.UTF-8"}) {
    ASSERT_EQ(setenv("LC_ALL", locale, 1), 0);
    Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "-n", "4"});
    terminal.wait_for("> ");
    terminal.type("caf\u00E9 \u65E5\u672C\r");
    terminal.wait_for("[turn 1: read");
    terminal.wait_for("> ");
    const std::string file = folder.file("chat.rkv");
    terminal.type("/save " + file + "\r");
    terminal.wait_for("saved in");
    terminal.wait_for("> ");  // a Ctrl-D before that would be a plain line's, and is lost
    terminal.type(kCtrlD);
    EXPECT_EQ(terminal.wait(), 0);
    EXPECT_THAT(read_file(file), HasSubstr("caf\u00E9 \u65E5\u672C")) << locale;
  }
  unsetenv("LC_ALL");
}

TEST(CliChatTerminal, CtrlCAtAnyMomentLosesNothing) {
  TemporaryFolder folder;
  chat_model(32768).write(folder.file("tiny.gguf"));
  Terminal terminal({"chat", "-m", folder.file("tiny.gguf"), "-t", "1", "--budget", "64", "-n",
                     "200", "--decode-interval", "16"});
  terminal.wait_for("> ");
  terminal.type("Hello.\r");
  terminal.wait_for("[turn 1: read");
  const std::string file = folder.file("chat.rkv");
  terminal.type("/save " + file + "\r");
  terminal.wait_for("saved in");
  std::mt19937 random(19);
  const std::array<std::string, 6> lines{"Hello there.", "/save " + file, "/load " + file,
                                         "/budget 48",   "Tell me more.", "/budget 64"};
  const auto wait = [&](int most) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<unsigned>(most)));
  };
  for (int round = 0; round < 300; ++round) {
    terminal.type(lines[random() % lines.size()] + "\r");
    wait(round % 2 == 0 ? 3000 : 30000);
    terminal.type(kCtrlC);
    if (round % 3 == 0) {  // once more, at once or a little later
      wait(2000);
      terminal.type(kCtrlC);
    }
    if (round % 20 == 19) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      terminal.type("\r/stats\r");
      if (terminal.wait_for("peak resident memory").empty()) return;  // it has ended
    }
  }
  terminal.type("\r/stats\r");
  terminal.wait_for("peak resident memory");
  terminal.wait_for("> ");
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace restkv
