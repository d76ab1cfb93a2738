// `restkv demo`: the report it writes, and what it refuses before minutes of work.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"

namespace restkv {
namespace {

class CliDemo : public ::testing::Test {
 protected:
  CliDemo() { chat_model().write(model_); }
  [[nodiscard]] std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> list{"demo",     "-m",  model_,      "-t",    "1",
                                  "--tokens", "300", "--budgets", "64,128"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  [[nodiscard]] std::string refusal(int exit_code, const std::vector<std::string>& more) const {
    std::vector<std::string> list{"demo", "-m", model_, "-t", "1", "-o", report_};
    list.insert(list.end(), more.begin(), more.end());
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(std::filesystem::exists(report_ + "/index.html"));
    return outcome.err;
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
  std::string report_ = folder_.file("report");
};

TEST_F(CliDemo, WritesAReport) {
  const Outcome outcome = restkv_process(arguments({"-o", report_, "--depths", "2"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("restkv"));
  EXPECT_THAT(outcome.out, HasSubstr(report_ + "/index.html"));
  EXPECT_THAT(outcome.err, HasSubstr("demo: 100%"));
  for (const char* name : {"needle.svg", "kept.svg", "needle.md", "index.html"}) {
    EXPECT_GT(std::filesystem::file_size(report_ + "/" + name), 100U) << name;
  }
  EXPECT_NO_THROW(read_json(report_ + "/needle.json"));
}

TEST_F(CliDemo, CtrlCLeavesNoReport) {
  const Outcome outcome = restkv_process(
      Spawn{.arguments = arguments({"-o", report_, "--depths", "100"}),
            .interrupt_when = [](const Outcome& so_far) { return !so_far.err.empty(); }});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("restkv: interrupted"));
  EXPECT_FALSE(std::filesystem::exists(report_ + "/index.html"));
}

TEST_F(CliDemo, RefusesBeforeTheWorkBegins) {
  EXPECT_THAT(refusal(2, {"--depths", "0"}), HasSubstr("--depths"));
  EXPECT_THAT(refusal(2, {"--tokens", "-1"}), HasSubstr("--tokens"));
  EXPECT_THAT(refusal(2, {"--tokens", "5"}), HasSubstr("raise the prompt length"));
  EXPECT_THAT(refusal(2, {"--tokens", "9000"}), HasSubstr("the model's context holds 4096"));
  // Before a prompt of that length is invented, which takes more than ten minutes.
  EXPECT_THAT(refusal(2, {"--tokens", "99999999"}), HasSubstr("the model's context holds 4096"));
  EXPECT_THAT(refusal(2, {"--budgets", "16"}), HasSubstr("budget 16 leaves no room"));
  EXPECT_THAT(refusal(2, {"--budgets", ""}), HasSubstr("budget"));
  EXPECT_THAT(refusal(2, {"--haystack", "hay"}), HasSubstr("choose one of stories, noise, essay"));
  EXPECT_THAT(refusal(2, {"--haystack", "essay"}), HasSubstr("--essay FILE"));
  EXPECT_THAT(refusal(2, {"--essay", "text"}), HasSubstr("--haystack essay"));
  EXPECT_THAT(refusal(1, {"--haystack", "essay", "--essay", folder_.file("absent")}),
              HasSubstr("cannot read " + folder_.file("absent")));
}

TEST_F(CliDemo, RefusesAFolderThatCannotBeWritten) {
  const std::string below_a_file = model_ + "/report";
  const Outcome outcome = restkv_process(arguments({"-o", below_a_file}));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("cannot write into the folder " + below_a_file));
  EXPECT_THAT(outcome.err, ::testing::Not(HasSubstr("demo: "))) << "no work before the refusal";
}

}  // namespace
}  // namespace restkv
