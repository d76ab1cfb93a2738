// `restkv calibrate`: what a model teaches about itself, for kvzap and triattention.

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli_test.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

class CliCalibrate : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    chat_model().write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  CliCalibrate() {
    fs::create_directory(folder_.file("texts"));
    fs::create_directory(folder_.file("empty"));
    write("texts/b.txt", story(40));
    write("texts/a.html", "<html><body><p>" + story(30) + "</p></body></html>");
    write("texts/.hidden", "not a text: \x01\x02");
    write("short.txt", "Too short to learn from.");
  }

  static std::string story(int boats) {
    std::string text;
    for (int i = 0; i < boats; ++i) {
      text += "Boat " + std::to_string(i * 7) + " left in the morning with fish and " +
              std::to_string(i * i) + " barrels of salt.\n";
    }
    return text;
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name), std::ios::binary) << text;
  }
  [[nodiscard]] std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> list{"calibrate", "-m", tiny_, "-t", "1", "-o", output_};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  [[nodiscard]] Outcome calibrate(const std::vector<std::string>& more) const {
    return restkv_process(arguments(more));
  }
  [[nodiscard]] Outcome run(const std::string& method, const std::string& statistics) const {
    return restkv_process({"run", "-m", tiny_, "-t", "1", "-n", "4", "-f",
                           folder_.file("texts/b.txt"), "--method", method, "--statistics",
                           statistics, "--budget", "100"});
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
  std::string output_ = folder_.file("model.stats");
};

TEST_F(CliCalibrate, TeachesWhatMethodsRead) {
  const Outcome outcome = calibrate({"--text", folder_.file("texts"), "--length", "300"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("layer     R^2   least    most\n"));
  EXPECT_THAT(outcome.out, HasSubstr("\n  all  "));
  EXPECT_FALSE(fs::exists(output_ + ".sums"));
  const Json json = read_json(output_);
  EXPECT_EQ(json.at("layers").size(), 2U);
  EXPECT_EQ(json.at("kvzap").size(), 2U);
  EXPECT_EQ(json.at("kvzap").front().at("weights").size(), 2U);
  EXPECT_THAT(outcome.out, StartsWith(std::to_string(json.at("tokens").get<size_t>()) + " tokens"));
  for (const char* method : {"kvzap", "triattention"}) {
    const Outcome answer = run(method, output_);
    EXPECT_EQ(answer.exit_code, 0) << answer.err;
    EXPECT_EQ(answer.err.find("statistics"), std::string::npos) << answer.err;
  }
  // Another model of the same shape.
  TinyModel other = chat_model();
  other.seed = 5;
  other.write(folder_.file("other.gguf"));
  const Outcome refused = restkv_process({"run", "-m", folder_.file("other.gguf"), "-p", "hello",
                                          "--method", "kvzap", "--statistics", output_});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("another model"));
}

TEST_F(CliCalibrate, GoesOnWhereItWasInterrupted) {
  const std::vector<std::string> pieces{"--text", folder_.file("texts"), "--length", "100"};
  const Outcome whole = calibrate(pieces);
  EXPECT_EQ(whole.exit_code, 0) << whole.err;
  const std::string expected = read_file(output_);
  fs::remove(output_);

  const std::string sums = output_ + ".sums";
  const Outcome stopped =
      restkv_process(Spawn{.arguments = arguments(pieces),
                           .interrupt_when = [&](const Outcome&) { return fs::exists(sums); }});
  ASSERT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("the same command goes on"));
  ASSERT_TRUE(fs::exists(sums));
  EXPECT_FALSE(fs::exists(output_));

  const Outcome others = calibrate({"--text", folder_.file("texts/b.txt"), "--length", "100"});
  EXPECT_EQ(others.exit_code, 2);
  EXPECT_THAT(others.err, HasSubstr("other texts"));
  const Outcome rest = calibrate(pieces);
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("pieces have been read before"));
  EXPECT_EQ(read_file(output_), expected);
  EXPECT_FALSE(fs::exists(sums));
}

TEST_F(CliCalibrate, SaysWhatItLeavesOut) {
  const Outcome outcome = calibrate({"--text", folder_.file("texts/b.txt"), "--text",
                                     folder_.file("short.txt"), "--length", "200"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("tokens in pieces of less than 64 are left out"));
}

TEST_F(CliCalibrate, RefusesBeforeTheWork) {
  const auto refused = [&](int code, const std::vector<std::string>& more) {
    const Outcome outcome = calibrate(more);
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_FALSE(fs::exists(output_));
    return outcome.err;
  };
  const std::string texts = folder_.file("texts");
  EXPECT_THAT(refused(1, {"--text", folder_.file("short.txt")}), HasSubstr("give at least 640"));
  EXPECT_THAT(refused(1, {"--text", folder_.file("empty")}), HasSubstr("has no files"));
  EXPECT_THAT(refused(1, {"--text", folder_.file("missing")}), HasSubstr("missing"));
  EXPECT_THAT(refused(1, {"--text", tiny_}), HasSubstr("tiny.gguf"));
  EXPECT_THAT(refused(2, {"--text", texts, "--length", "3000"}), HasSubstr("twice"));
  write("model.stats.sums", "mine");
  EXPECT_THAT(refused(1, {"--text", texts}), HasSubstr("no unfinished calibration"));
  const auto writes_to = [&](const std::string& path) {
    const Outcome outcome =
        restkv_process({"calibrate", "-m", tiny_, "--text", texts + "/b.txt", "-o", path});
    EXPECT_EQ(outcome.exit_code, path.find("/no/") == 0 ? 1 : 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(writes_to("-"), HasSubstr("standard output"));
  EXPECT_THAT(writes_to(tiny_), HasSubstr("--model"));
  EXPECT_THAT(writes_to(texts + "/b.txt"), HasSubstr("--text"));
  EXPECT_THAT(writes_to("/no/such/folder"), HasSubstr("/no/such/folder"));
}

}  // namespace
}  // namespace restkv
