// What only depends on options, model and the length of the prompt is refused before a prompt is
// read, by every command alike.

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli_test.h"

namespace restkv {
namespace {

using ::testing::ContainsRegex;

constexpr size_t kContext = 300;

std::string words(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += i % 3 == 0 ? "rain " : i % 3 == 1 ? "stone " : "river ";
  return text;
}

class CliRefusals : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    model_ = suite_folder_->file("eight-layers.gguf");
    TinyModel model = chat_model(kContext);
    model.layers = 8;
    model.write(model_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  static Outcome run(const std::vector<std::string>& more) {
    std::vector<std::string> list{"run", "-m", model_, "-t", "1", "--raw"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(list);
  }
  static Outcome chat(const std::string& input, const std::vector<std::string>& more) {
    std::vector<std::string> list{"chat", "-m", model_, "-t", "1"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(Spawn{.arguments = list, .input = input});
  }
  static void expect_refused(const Outcome& outcome, const std::string& why) {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr(why));
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string model_;
  TemporaryFolder folder_;
};

TEST_F(CliRefusals, ALadderThatDoesNotFitTheModelsLayers) {
  const std::string why = "budget 12 is too small for a ladder over 8 layers after 4 sinks; raise";
  const std::vector<std::string> ladder{"--method", "lacache", "--budget", "12"};
  expect_refused(run({"-p", "hi", "--method", "lacache", "--budget", "12"}), why);
  expect_refused(chat("hi\n", ladder), why);

  const Outcome changed =
      chat("hi\n/budget 12\n/stats\n", {"--method", "lacache", "--budget", "60", "-n", "4"});
  EXPECT_EQ(changed.exit_code, 1) << changed.err;
  EXPECT_THAT(changed.err, HasSubstr(why));
  EXPECT_THAT(changed.err, HasSubstr("lacache (budget 60)"));

  const std::string data = folder_.file("prompts.jsonl");
  std::ofstream(data) << R"({"text": "hi", "answers": ["x"]})"
                      << "\n";
  expect_refused(
      restkv_process({"eval", "prompts", "-m", model_, "--data", data, "--method", "lacache",
                      "--budget", "12", "-t", "1", "-o", folder_.file("eval")}),
      why);
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, std::vector<std::string>{"--synthetic"}}) {
    std::vector<std::string> list{"bench",    "-m",     model_,      "--method", "lacache",
                                  "--budget", "12",     "--lengths", "64",       "--decode",
                                  "2",        "--runs", "1",         "-t",       "1"};
    list.insert(list.end(), more.begin(), more.end());
    expect_refused(restkv_process(list), why);
  }
  expect_refused(
      restkv_process({"demo", "-m", model_, "--methods", "lacache", "--budgets", "12", "--tokens",
                      "150", "--depths", "1", "-t", "1", "-o", folder_.file("demo")}),
      why);
}

TEST_F(CliRefusals, CompactPositionsThatWouldPassTheContext) {
  const std::vector<std::string> long_answer{"-p",       words(90), "--method",    "streaming-llm",
                                             "--budget", "60",      "--positions", "compact",
                                             "-n",       "300"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), long_answer.begin(), long_answer.end());
    return run(more);
  };
  expect_refused(with({}), "without --decode-interval");
  expect_refused(with({"--decode-interval", "250"}), "lower --decode-interval");
  const Outcome fits = with({"--decode-interval", "9"});
  EXPECT_EQ(fits.exit_code, 0) << fits.err;

  const std::vector<std::string> book{"-p",       words(900), "--method",    "streaming-llm",
                                      "--budget", "60",       "--positions", "compact",
                                      "-n",       "5"};
  const auto read = [&](std::vector<std::string> more) {
    more.insert(more.begin(), book.begin(), book.end());
    return run(more);
  };
  expect_refused(read({}), "--prefill chunked");
  expect_refused(read({"--prefill", "chunked", "--chunk", "250"}), "lower --chunk or --budget");
  EXPECT_EQ(read({"--prefill", "chunked", "--chunk", "200"}).exit_code, 0);
}

TEST_F(CliRefusals, AChatEndsWithTheContext) {
  const Outcome outcome =
      chat("Hello.\n" + words(280) + "\nHello.\n/reset\nHello.\n", {"-n", "400", "--temp", "2"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("the answer ends where the model's context of 300 does"));
  EXPECT_THAT(outcome.err, HasSubstr("do not fit into the model's context of 300"));
}

TEST_F(CliRefusals, ADocumentLongerThanTheContext) {
  const std::string book = folder_.file("book.txt");
  std::ofstream(book) << words(900);
  const std::string why =
      "do not fit into the model's context of 300; shorten the prompt, or begin anew with "
      "--rope-scaling";
  expect_refused(chat("", {"-f", book}), why);
  const Outcome between = chat("/file " + book + "\nHello.\n", {"-n", "4"});
  EXPECT_EQ(between.exit_code, 1);
  EXPECT_THAT(between.err, HasSubstr(why));
  EXPECT_EQ(between.out, chat("Hello.\n", {"-n", "4"}).out) << "the chat goes on";
  // What the refusal says helps.
  const std::vector<std::string> in_pieces{"-f",       book, "--prefill",   "chunked",
                                           "--chunk",  "60", "--positions", "compact",
                                           "--budget", "60", "-n",          "4"};
  const Outcome read = chat("Which?\n", in_pieces);
  EXPECT_EQ(read.exit_code, 0) << read.err;
  EXPECT_THAT(read.err, ContainsRegex(book + ": read 9[0-9][0-9] tokens.*60 of 9"));
}

// A session from a file knows no angles yet.
TEST_F(CliRefusals, ALoadedConversationTakesASmallerBudget) {
  const std::string saved = folder_.file("saved.rkv");
  const Outcome first = restkv_process(
      {"run", "-m", model_, "-t", "1", "-p", words(150), "--method", "streaming-llm", "--budget",
       "100", "--positions", "compact", "-n", "0", "--save-cache", saved});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const Outcome outcome = chat("/load " + saved + "\n/budget 50\nHello.\n", {"-n", "5"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("cache 50 tokens per head"));
}

}  // namespace
}  // namespace restkv
