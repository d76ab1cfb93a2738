// `restkv chat` over a pipe: turns, commands, snapshots and Ctrl-C.

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"

namespace restkv {
namespace {

/// What a turn's line on standard error says.
struct TurnCost {
  size_t read = 0;
  size_t wrote = 0;
  size_t held = 0;
};
std::vector<TurnCost> costs(const std::string& err) {
  const std::regex line(
      R"(\[turn \d+: read (\d+) tokens in .*, wrote (\d+) .* cache (\d+) tokens)");
  std::vector<TurnCost> result;
  for (std::sregex_iterator i(err.begin(), err.end(), line), end; i != end; ++i) {
    result.push_back({std::stoul((*i)[1]), std::stoul((*i)[2]), std::stoul((*i)[3])});
  }
  return result;
}

/// A tiny random model with a real tokenizer and its chat template.
class CliChat : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    chat_model(32768).write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  /// The most likely token always wins, unless the options say otherwise.
  static Outcome chat(const std::string& input, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"-n", "20"});
    for (const auto& [option, value] : {std::pair("--temp", "0"), {"--repeat-penalty", "1"}}) {
      if (std::ranges::find(more, option) == more.end()) more.insert(more.end(), {option, value});
    }
    return restkv_process(Spawn{.arguments = arguments(more), .input = input});
  }
  static std::vector<std::string> arguments(const std::vector<std::string>& more) {
    std::vector<std::string> list{"chat", "-m", tiny_, "-t", "1", "--budget", "64"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
};

TEST_F(CliChat, TenTurnsCostTheirOwnTokensAndKeepTheBudget) {
  std::string input;
  for (int i = 0; i < 10; ++i) input += "Tell me about the number " + std::to_string(i) + ".\n";
  const Outcome outcome = chat(input);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto turns = costs(outcome.err);
  ASSERT_EQ(turns.size(), 10U) << outcome.err;
  for (size_t i = 0; i < turns.size(); ++i) {
    EXPECT_LE(turns[i].held, 64U + 32U);
    EXPECT_LE(turns[i].read, i == 0 ? 50U : 30U);  // the first with the system message
  }
  EXPECT_EQ(turns.back().held, 64U);
}

TEST_F(CliChat, LayersChooseWhatTheyKeep) {
  const std::string file = folder_.file("chat.rkv");
  const auto chatting = [&](const std::string& input, const std::vector<std::string>& more) {
    std::vector<std::string> list{
        "chat", "-m", tiny_, "-t", "1", "-n", "20", "--temp", "0", "--repeat-penalty", "1"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(Spawn{.arguments = list, .input = input});
  };
  const std::vector<std::string> chosen{"--budget",          "auto", "--tolerance", "0.5",
                                        "--decode-interval", "8"};
  const Outcome whole = chatting("One.\nTwo.\n/stats\n/save " + file + "\nThree.\n", chosen);
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_THAT(whole.err, HasSubstr("restkv (budget auto:0.5)"));
  EXPECT_THAT(whole.err, HasSubstr("; layer by layer "));
  const auto turns = costs(whole.err);
  ASSERT_EQ(turns.size(), 3U) << whole.err;
  EXPECT_LE(turns[0].held, turns[2].held);
  const Outcome later = chatting("Three.\n/budget 40\n/stats\n", {"--load", file});
  ASSERT_EQ(later.exit_code, 0) << later.err;
  EXPECT_TRUE(whole.out.ends_with(later.out)) << later.out << later.err;
  EXPECT_THAT(later.err, HasSubstr("budget auto:0.5:40"));
  EXPECT_THAT(later.err, HasSubstr("40 tokens per head"));
}

TEST_F(CliChat, GoesOnFromASnapshotAsWithout) {
  const std::string file = folder_.file("chat.rkv");
  const Outcome whole =
      chat("One.\nTwo.\n/save " + file + "\n/reset\n/load " + file + "\nThree.\nFour.\n");
  const Outcome plain = chat("One.\nTwo.\nThree.\nFour.\n");
  const Outcome second = chat("Three.\nFour.\n", {"--load", file});
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_EQ(whole.out, plain.out);
  ASSERT_GT(second.out.size(), 10U);
  EXPECT_TRUE(plain.out.ends_with(second.out)) << second.out << second.err;
  EXPECT_LT(second.out.size(), plain.out.size());
}

TEST_F(CliChat, Commands) {
  const Outcome outcome = chat(
      "/help\nHello there, who are you and what do you do?\n/budget 40\n/stats\n/budget 3\n"
      "/budget x\n/budget 25%\n/budget\n/nonsense\n/load /nowhere/at.all\n/save "
      "/nowhere/at.all\n/reset\n"
      "/stats\n\n/quit\nnever read\n");
  EXPECT_EQ(outcome.exit_code, 1) << "lines failed: " << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("/budget N     keep"));
  EXPECT_THAT(outcome.err, HasSubstr("restkv (budget 40)"));
  EXPECT_THAT(outcome.err, HasSubstr("40 tokens per head"));
  EXPECT_THAT(outcome.err, HasSubstr("budget 3 leaves no room"));
  EXPECT_THAT(outcome.err, HasSubstr("the budget is \"x\"; expected a number of tokens"));
  EXPECT_THAT(outcome.err, HasSubstr("/budget is 25%, but what was said has been cut already"));
  EXPECT_THAT(outcome.err, HasSubstr("/budget needs N"));
  EXPECT_THAT(outcome.err, HasSubstr("there is no command /nonsense"));
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere/at.all: cannot open the snapshot"));
  EXPECT_THAT(outcome.err, HasSubstr("cannot write /nowhere/at.all"));
  EXPECT_THAT(outcome.err, HasSubstr("0 tokens per head"));
  EXPECT_EQ(costs(outcome.err).size(), 1U);
}

TEST_F(CliChat, CommandsTakeNoMoreWordsThanTheyUse) {
  const Outcome outcome = chat("Hello.\n/reset x\n/quit now\n/stats all\n/help me\nHello again.\n");
  EXPECT_EQ(outcome.exit_code, 1);
  for (const char* command :
       {"/reset with x", "/quit with now", "/stats with all", "/help with me"}) {
    EXPECT_THAT(outcome.err, HasSubstr(std::string("there is no command ") + command));
  }
  EXPECT_EQ(costs(outcome.err).size(), 2U) << outcome.err;
}

TEST_F(CliChat, ALoadedConversationHasItsOwnSystemMessage) {
  TemporaryFolder folder;
  const std::string file = folder.file("chat.rkv");
  const Outcome saved =
      chat("Hello.\n/save " + file + "\n/reset\nHello.\n", {"--system", "Answer in rhymes."});
  ASSERT_EQ(saved.exit_code, 0) << saved.err;
  const size_t read = costs(saved.err).at(1).read;
  EXPECT_EQ(read, costs(saved.err).at(0).read);
  const Outcome loaded = chat("/reset\nHello.\n", {"--load", file});
  EXPECT_EQ(costs(loaded.err).at(0).read, read) << loaded.err;
  EXPECT_EQ(chat("", {"--load", file, "--system", "x"}).exit_code, 2);
}

TEST_F(CliChat, SaysWhatALoadedConversationLacks) {
  TemporaryFolder folder;
  const std::string file = folder.file("chat.rkv");
  ASSERT_EQ(chat("Hello.\n/save " + file + "\n").exit_code, 0);
  const auto said = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--load", file});
    return chat("Hello.\n", more).err;
  };
  EXPECT_THAT(said({"--repeat-penalty", "1.5"}), HasSubstr("penalties do not count what was said"));
  EXPECT_THAT(said({"--temp", "1"}), HasSubstr("random choices begin anew"));
  EXPECT_THAT(said({}), Not(HasSubstr("restkv: ")));
}

TEST_F(CliChat, MessagesMayHaveSeveralLines) {
  const Outcome plain = chat("One.\n");
  const auto same_as = [&](const std::string& input, const std::string& message) {
    const std::string file = folder_.file("chat.rkv");
    const Outcome outcome = chat(input + "/save " + file + "\n");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(costs(outcome.err).size(), 1U) << outcome.err;
    std::ifstream saved(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(saved), {}};
    EXPECT_THAT(bytes, HasSubstr(Json(message).dump())) << input;
  };
  same_as("\"\"\"One.\nTwo.\n\n/three\n\"\"\"\n", "One.\nTwo.\n\n/three");
  same_as("\"\"\"\nOne.\nTwo.\"\"\"\n", "One.\nTwo.");
  same_as("\"\"\"One.\"\"\"\n", "One.");
  same_as("One.\\\nTwo.\\\nThree.\n", "One.\nTwo.\nThree.");
  const Outcome open = chat("One.\n\"\"\"\nTwo.\n");
  EXPECT_EQ(open.exit_code, 1);
  EXPECT_THAT(open.err, HasSubstr("line 2: \"\"\" begins a message that nothing ends"));
  EXPECT_EQ(open.out, plain.out);
}

TEST_F(CliChat, DocumentsAreReadBeforeTheQuestion) {
  std::string report = "The report.";
  for (int i = 0; i < 300; ++i) report += " Item " + std::to_string(i * i % 97) + ".";
  const std::string file = folder_.file("report.txt");
  std::ofstream(file) << report << "\n";
  const Outcome at_once = chat("Which?\n/stats\n", {"-f", file});
  ASSERT_EQ(at_once.exit_code, 0) << at_once.err;
  EXPECT_THAT(at_once.err, HasSubstr(file + ": read 1"));
  EXPECT_THAT(at_once.err, HasSubstr("64 of 1"));
  EXPECT_THAT(at_once.err, HasSubstr("kvzip (budget 64)"));
  EXPECT_LT(costs(at_once.err).at(0).read, 20U);
  const Outcome later = chat("/file " + file + "\nWhich?\n");
  EXPECT_EQ(later.out, at_once.out) << later.err;
  // What was said before is read again by the method for documents.
  const Outcome between = chat("Hello.\n/file " + file + "\nWhich?\n/stats\n");
  ASSERT_EQ(between.exit_code, 0) << between.err;
  EXPECT_THAT(between.err, HasSubstr("(reading the conversation again, by method kvzip)"));
  EXPECT_THAT(between.err, HasSubstr("kvzip (budget 64)"));
  EXPECT_EQ(costs(between.err).size(), 2U);
  // What is said about it does not take its place, until it is as much.
  std::vector<TurnCost> turns = costs(chat("1?\n2?\n3?\n4?\n5?\n", {"-f", file}).err);
  ASSERT_EQ(turns.size(), 5U);
  EXPECT_GT(turns[0].held, 64U + 20U);
  EXPECT_LE(turns[1].held, 128U);
  EXPECT_EQ(turns[4].held, 64U);
  // A method that was asked for stays.
  const Outcome asked = chat("/file " + file + "\nWhich?\n/stats\n", {"--method", "snapkv"});
  EXPECT_THAT(asked.err, HasSubstr("snapkv (budget 64)"));
  // Within the budget the document and the question are one message.
  const std::string note = folder_.file("note.txt");
  std::ofstream(note) << "The meeting is on Thursday.\n";
  EXPECT_EQ(chat("/file " + note + "\nWhen?\n", {"--method", "full"}).out,
            chat("The meeting is on Thursday.\\\n\\\nWhen?\n", {"--method", "full"}).out);

  const Outcome absent = chat("/file /nowhere/at.all\nHello.\n");
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_THAT(absent.err, HasSubstr("/nowhere/at.all"));
  EXPECT_EQ(absent.out, chat("Hello.\n").out);
  EXPECT_EQ(chat("", {"-f", "-"}).exit_code, 2);
}

TEST_F(CliChat, ADocumentStaysOpenInASnapshot) {
  const std::string note = folder_.file("note.txt");
  const std::string saved = folder_.file("chat.rkv");
  std::ofstream(note) << "The meeting is on Thursday.\n";
  ASSERT_EQ(chat("/file " + note + "\n/save " + saved + "\n").exit_code, 0);
  EXPECT_EQ(chat("When?\n", {"--load-cache", saved}).out, chat("/file " + note + "\nWhen?\n").out);
}

TEST_F(CliChat, AnswersTheLastMessageAgain) {
  const Outcome plain = chat("One.\nTwo.\n");
  const Outcome edited = chat("One.\nThree.\n/edit Two.\n/stats\n");
  ASSERT_EQ(edited.exit_code, 0) << edited.err;
  EXPECT_TRUE(edited.out.ends_with(plain.out.substr(plain.out.find('\n') + 1))) << edited.out;
  EXPECT_THAT(edited.err, HasSubstr("turns                  2"));
  const Outcome retried = chat("One.\n/retry\n/retry\n/stats\n", {"--temp", "5"});
  ASSERT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_EQ(costs(retried.err).size(), 3U);
  EXPECT_THAT(retried.err, HasSubstr("turns                  1"));
  EXPECT_NE(costs(retried.err).at(0).read, 0U);
  std::istringstream lines(retried.out);
  std::string first;
  std::string second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_NE(first, second);
  // The most likely answer is drawn otherwise, once.
  const Outcome likely = chat("One.\n/retry\n/edit One.\n");
  ASSERT_EQ(likely.exit_code, 0) << likely.err;
  const std::string one = chat("One.\n").out;
  EXPECT_TRUE(likely.out.starts_with(one)) << likely.out;
  EXPECT_TRUE(likely.out.ends_with(one)) << likely.out;
  EXPECT_NE(likely.out, one + one + one);
  const Outcome refused = chat("/retry\n/edit x\nOne.\n/edit\n");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("/retry has no message to answer again"));
  EXPECT_THAT(refused.err, HasSubstr("/edit has no message to answer again"));
  EXPECT_THAT(refused.err, HasSubstr("/edit needs a text here"));
}

TEST_F(CliChat, ShowsWhatIsRemembered) {
  std::string words;
  for (int i = 0; i < 200; ++i) words += "word" + std::to_string(i % 7) + " ";
  const Outcome whole = chat("Hello there.\n/kept\n", {"--no-system"});
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_THAT(whole.err, HasSubstr("tokens are kept per KV head. [...]: in hardly any of them"));
  EXPECT_THAT(whole.err, HasSubstr("Hello there."));
  EXPECT_THAT(whole.err, Not(HasSubstr("\x1b")));
  const Outcome cut = chat(words + "\n/kept\n", {"--method", "streaming-llm"});
  ASSERT_EQ(cut.exit_code, 0) << cut.err;
  EXPECT_THAT(cut.err, HasSubstr("64 of "));
  EXPECT_THAT(cut.err, HasSubstr("[...]"));
  const Outcome renumbered =
      chat(words + "\n/kept\n", {"--method", "streaming-llm", "--positions", "compact"});
  EXPECT_EQ(renumbered.exit_code, 1);
  EXPECT_THAT(renumbered.err, HasSubstr("/kept has nothing to show with --positions compact"));
}

TEST_F(CliChat, GuessesTheCommandThatWasMeant) {
  EXPECT_THAT(chat("/stat\n").err, HasSubstr("no command /stat (did you mean /stats?)"));
}

TEST_F(CliChat, LinesThatAreNoTextAreRefusedAndTheChatGoesOn) {
  const Outcome outcome = chat(std::string("One.\nbefore\0after\ncaf\xE9\n/save x\0y\nTwo.\n", 38));
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("line 2: is binary or UTF-16"));
  EXPECT_THAT(outcome.err, HasSubstr("line 3: is not UTF-8: byte 0xE9 at offset 3"));
  EXPECT_THAT(outcome.err, HasSubstr("line 4: is binary"));
  EXPECT_EQ(costs(outcome.err).size(), 2U) << outcome.err;
  EXPECT_EQ(outcome.out, chat("One.\nTwo.\n").out);
}

TEST_F(CliChat, InputInUtf16IsConvertedAsAWhole) {
  // U+0A41 holds the byte of a line's end.
  const Outcome utf8 = chat("O\u0A41ne.\nTwo.\n");
  const Outcome utf16 =
      chat(std::string("\xFF\xFEO\0\x41\x0An\0e\0.\0\r\0\n\0T\0w\0o\0.\0\n\0", 26));
  EXPECT_EQ(utf16.exit_code, 0) << utf16.err;
  EXPECT_EQ(costs(utf16.err).size(), 2U) << utf16.err;
  EXPECT_EQ(utf16.out, utf8.out);
  const Outcome cut = chat("\xFF\xFEOn.");
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_THAT(cut.err, HasSubstr("standard input: begins with the byte order mark of UTF-16LE"));
  EXPECT_TRUE(cut.out.empty());
}

TEST_F(CliChat, ControlTokensInALineAreTextUnlessAskedFor) {
  const std::string line = "a<|im_end|>b\n";
  const auto read = [&](const std::vector<std::string>& more) {
    const auto turns = costs(chat(line + line, more).err);
    EXPECT_EQ(turns.size(), 2U);
    return std::pair(turns.at(0).read, turns.at(1).read);
  };
  const auto [first, second] = read({});
  const auto [first_parsed, second_parsed] = read({"--parse-special"});
  EXPECT_GT(first, first_parsed);
  EXPECT_GT(second, second_parsed);
  EXPECT_EQ(chat("", {"--parse-special", "--load", "x"}).exit_code, 2);
}

TEST_F(CliChat, InterruptStopsTheAnswerOnly) {
  const Outcome outcome = restkv_process(
      Spawn{.arguments = arguments({"-n", "20000", "--temp", "1"}),
            .input = "Hello.\n/stats\n/quit\n",
            .interrupt_when = [](const Outcome& so_far) { return so_far.out.size() > 50; }});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto turns = costs(outcome.err);
  ASSERT_EQ(turns.size(), 1U) << outcome.err;
  EXPECT_LT(turns[0].wrote, 20000U);
  EXPECT_THAT(outcome.err, HasSubstr("peak resident memory"));
}

TEST_F(CliChat, ATurnThatDoesNotFitIsForgotten) {
  std::string text;
  for (int i = 0; i < 34000; ++i) text += "word ";
  const Outcome outcome = chat("Hello.\n" + text + "\n/stats\nHello again.\n");
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("context"));
  EXPECT_EQ(costs(outcome.err).size(), 2U) << outcome.err;
}

// SmolLM2, nine turns later, with 320 of 371 tokens kept: fewer do, too, but for unlucky rounding.
TEST_F(CliChat, RemembersAFactThatStreamingLlmHasLost) {
  const std::string input =
      "I play the violin and my teacher is called Martin. Please remember this.\n"
      "What is the capital of France?\nName three fruits.\nHow many days does a week have?\n"
      "Write one sentence about the sea.\nWhat do bees make?\nWhat is two plus three?\n"
      "Name a planet.\nWhat language do people speak in Spain?\nWhich instrument do I play?\n";
  const auto last_answer = [&](const std::vector<std::string>& method) {
    std::vector<std::string> list{
        "chat",   "-m", test_model_path(),  "-n", "32",         "--budget", "320",
        "--temp", "0",  "--repeat-penalty", "1",  "--no-system"};
    list.insert(list.end(), method.begin(), method.end());
    const Outcome outcome = restkv_process(Spawn{.arguments = list, .input = input});
    EXPECT_EQ(costs(outcome.err).size(), 10U) << outcome.err;
    for (const TurnCost& turn : costs(outcome.err)) EXPECT_LE(turn.held, 320U);
    return outcome.out.substr(outcome.out.rfind('\n', outcome.out.size() - 2) + 1);
  };
  EXPECT_THAT(last_answer({}), HasSubstr("violin"));
  EXPECT_THAT(last_answer({"--method", "streaming-llm"}), Not(HasSubstr("violin")));
}

}  // namespace
}  // namespace restkv
