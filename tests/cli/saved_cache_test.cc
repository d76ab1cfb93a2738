// `restkv run --save-cache` and `--load-cache`.

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/beside_the_cut.h"
#include "cli/cli_test.h"

namespace restkv {
namespace {

/// A tiny random model with a real tokenizer and its chat template.
class CliSavedCache : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    description().write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }
  static TinyModel description() { return chat_model(); }

  static Outcome run(std::vector<std::string> more, const std::string& model = tiny_) {
    std::vector<std::string> list{"run", "-m", model, "-t", "1"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(list);
  }
  /// What is said about a cache that is not to be loaded.
  static std::string refusal(int exit_code, const std::vector<std::string>& more,
                             const std::string& model = tiny_) {
    const Outcome outcome = run(more, model);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  }
  [[nodiscard]] Json stats() const { return read_json(folder_.file("stats.json")); }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
};

TEST_F(CliSavedCache, RunsGoOnAsOneChat) {
  const std::string first = folder_.file("first.rkv");
  const std::string second = folder_.file("second.rkv");
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-n", "20", "--stats-json", folder_.file("stats.json")});
    const Outcome outcome = run(more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(beside_the_cut(outcome.err), "");
    return outcome.out;
  };
  std::string answers = with({"-p", "One, two, three.", "--budget", "40", "--decode-interval", "5",
                              "--save-cache", first});
  EXPECT_EQ(stats().at("cached_tokens"), 0);
  answers += with({"-p", "Four, five.", "--load-cache", first, "--save-cache", second});
  EXPECT_GT(stats().at("cached_tokens").get<double>(), 20);
  EXPECT_LT(stats().at("prompt_tokens").get<double>(), 30);  // nothing is read again
  EXPECT_EQ(stats().at("budget"), 40);
  answers += with({"-p", "Six.", "--load-cache", second});
  const Outcome chat = restkv_process(
      Spawn{.arguments = {"chat", "-m", tiny_, "-t", "1", "-n", "20", "--budget", "40",
                          "--decode-interval", "5", "--temp", "0", "--repeat-penalty", "1"},
            .input = "One, two, three.\nFour, five.\nSix.\n"});
  EXPECT_EQ(answers, chat.out);

  // The last of them, asked in a chat.
  const Outcome loaded =
      restkv_process(Spawn{.arguments = {"chat", "-m", tiny_, "-t", "1", "-n", "20", "--load",
                                         second, "--temp", "0", "--repeat-penalty", "1"},
                           .input = "Six.\n"});
  EXPECT_TRUE(chat.out.ends_with(loaded.out)) << loaded.out << loaded.err;
}

TEST_F(CliSavedCache, ReadsOnceForManyQuestions) {
  const std::string file = folder_.file("report.rkv");
  std::string report;
  for (int i = 0; i < 200; ++i) report += "Item " + std::to_string(i * i % 97) + ". ";
  for (const bool raw : {false, true}) {
    std::vector<std::string> reading{"-p", report, "--budget",     "64",
                                     "-n", "0",    "--save-cache", file};
    if (raw) reading.emplace_back("--raw");
    const Outcome read = run(reading);
    ASSERT_EQ(read.exit_code, 0) << read.err;
    EXPECT_EQ(read.out, "");
    const std::vector<std::string> question{"-p",      "Which?",       "--load-cache",
                                            file,      "-n",           "12",
                                            "--stats", "--stats-json", folder_.file("stats.json")};
    const Outcome once = run(question);
    ASSERT_EQ(once.exit_code, 0) << once.err;
    EXPECT_THAT(once.err, HasSubstr("cache loaded in"));
    EXPECT_GT(stats().at("cached_tokens").get<double>(), 500);
    EXPECT_LT(stats().at("prompt_tokens").get<double>(), 20);
    EXPECT_EQ(run(question).out, once.out);
    std::vector<std::string> smaller = question;
    smaller.insert(smaller.end(), {"--budget", "48"});
    EXPECT_EQ(run(smaller).exit_code, 0);
    EXPECT_EQ(stats().at("budget"), 48);
  }
  EXPECT_THAT(restkv_process({"chat", "-m", tiny_, "--load", file}).err,
              HasSubstr("holds a text without turns"));
}

// What is kept is chosen as `ask` and `chat -f` do, since the question is not known.
TEST_F(CliSavedCache, OnlyReadingIsForQuestionsThatComeLater) {
  const std::string file = folder_.file("report.rkv");
  const std::string report = folder_.file("report.txt");
  {
    std::ofstream out(report);
    for (int i = 0; i < 100; ++i) out << "Item " << i * i % 97 << ". ";
  }
  const auto read = [&](const std::vector<std::string>& more = {}) {
    std::vector<std::string> list{"-f", report, "-n", "0", "--budget", "64", "--save-cache", file};
    list.insert(list.end(), more.begin(), more.end());
    const Outcome outcome = run(list);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return restkv_process({"inspect", file}).out;
  };
  EXPECT_THAT(read({"--method", "snapkv"}), HasSubstr("snapkv (budget 64)"));
  EXPECT_THAT(read({"--window", "20"}), HasSubstr("restkv (budget 64)")) << "kvzip has no window";
  const std::string saved = read();
  EXPECT_THAT(saved, HasSubstr("kvzip (budget 64)"));
  EXPECT_THAT(saved, HasSubstr("document             Item 0. Item 1. Item 4."));
  EXPECT_THAT(saved, HasSubstr(" 64 per KV head are kept"));

  const std::vector<std::string> asking{"-p", "Which?", "--load-cache", file,
                                        "-n", "12",     "--stats-json", folder_.file("stats.json")};
  const Outcome answer = run(asking);
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
  const double asked = stats().at("prompt_tokens").get<double>();
  EXPECT_GE(stats().at("kept_at_end").get<double>(), 64 + asked) << "the document stays as it was";
  const auto chat = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list{
        "chat", "-m", tiny_, "-t", "1", "-n", "12", "--temp", "0", "--repeat-penalty", "1"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(Spawn{.arguments = list, .input = "Which?\n"});
  };
  EXPECT_EQ(chat({"-f", report, "--budget", "64"}).out, answer.out);
  EXPECT_EQ(chat({"--load-cache", file}).out, answer.out);
  // A smaller budget is for the document, too.
  std::vector<std::string> smaller = asking;
  smaller.insert(smaller.end(), {"--budget", "48"});
  EXPECT_EQ(run(smaller).exit_code, 0);
  EXPECT_LE(stats().at("kept_at_end").get<double>(), 48 + asked + 12);
}

TEST_F(CliSavedCache, RefusesWhatCannotBeGoneOnFrom) {
  const std::string file = folder_.file("cache.rkv");
  const std::vector<std::string> saving{"-p",       "Hello.", "-n",           "3",
                                        "--budget", "64",     "--save-cache", file};
  ASSERT_EQ(run(saving).exit_code, 0);
  const std::vector<std::string> loading{"-p", "Hello.", "-n", "3", "--load-cache", file};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list = loading;
    list.insert(list.end(), more.begin(), more.end());
    return list;
  };
  EXPECT_THAT(refusal(2, with({"--system", "Be brief."})), HasSubstr("has begun already"));
  EXPECT_THAT(refusal(2, with({"--raw"})), HasSubstr("goes on as it was begun"));
  EXPECT_THAT(refusal(2, with({"--kernel", "7"})), HasSubstr("--kernel has no effect on a loaded"));
  EXPECT_THAT(refusal(2, with({"--kv-type", "q8"})), HasSubstr("--kv-type has no effect"));
  EXPECT_THAT(refusal(2, with({"--budget", "3"})), HasSubstr("budget 3"));
  EXPECT_THAT(refusal(2, {"-p", "Hello.", "-n", "0"}), HasSubstr("--save-cache FILE"));
  EXPECT_THAT(refusal(1, {"-p", "Hello.", "--load-cache", "/nowhere/at.all"}),
              HasSubstr("/nowhere/at.all: cannot open the snapshot"));
  EXPECT_THAT(refusal(1, with({"--rope-scaling", "yarn", "--rope-scale", "2"})),
              HasSubstr("belongs to another model"));
  TinyModel other = description();
  other.seed = 7;
  other.write(folder_.file("other.gguf"));
  EXPECT_THAT(refusal(1, loading, folder_.file("other.gguf")),
              HasSubstr(file + ": belongs to another model"));

  // What cannot be saved does not cost the answer, nor the file that was there.
  const Outcome full = run({"-p", "Hello.", "-n", "3", "--save-cache", "/dev/full"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.out, Not(IsEmpty()));
  EXPECT_THAT(full.err, HasSubstr("/dev/full"));

  std::ifstream in(file, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  const auto damaged = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return refusal(1, loading);
  };
  EXPECT_THAT(damaged(good.substr(0, good.size() / 2)), HasSubstr("was it copied in full?"));
  std::string bytes = good;
  bytes[good.size() / 2] = static_cast<char>(bytes[good.size() / 2] + 1);
  EXPECT_THAT(damaged(bytes), HasSubstr("its checksum does not match"));
  bytes = good;
  bytes[8] = 9;
  EXPECT_THAT(damaged(bytes), HasSubstr("of a newer version"));
}

}  // namespace
}  // namespace restkv
