// The file of settings.
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"
#include "cli/settings_file.h"

namespace restkv {
namespace {

/// Those of whoever runs the tests of this program must not change them.
const bool kWithoutSettings = setenv("RESTKV_CONFIG", "/dev/null", 1) == 0;

class CliSettings : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(kWithoutSettings);
    setenv("RESTKV_CONFIG", file_.c_str(), 1);
  }
  void TearDown() override { setenv("RESTKV_CONFIG", "/dev/null", 1); }
  void write(const std::string& text) const { std::ofstream(file_) << text; }
  [[nodiscard]] std::string refusal(const std::string& text) const {
    write(text);
    const Outcome outcome = restkv_process({"methods"});
    EXPECT_EQ(outcome.exit_code, 1);
    return outcome.err;
  }

  TemporaryFolder folder_;
  std::string file_ = folder_.file("config");
};

TEST_F(CliSettings, StandForWhatIsNotOnTheCommandLine) {
  const std::string model = folder_.file("tiny.gguf");
  chat_model().write(model);
  write(
      "# what I always want\n\nmodel = " + model +
      "\nthreads=1\nseed = 3\n\n[run]\nmax-tokens = 2\njson = true\nseed = 5\n[chat]\ntemp = 9\n");
  const auto stats = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list{"run", "-p", "hello"};
    list.insert(list.end(), more.begin(), more.end());
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return parse_json(outcome.out);
  };
  const Json usual = stats({});
  EXPECT_EQ(usual.at("model"), Json(model));
  EXPECT_EQ(usual.at("generated_tokens"), 2);
  EXPECT_EQ(usual.at("seed"), 5);  // the command's own before that of all
  EXPECT_EQ(usual.at("temperature"), 0);
  EXPECT_EQ(stats({"-n", "3"}).at("generated_tokens"), 3);
  EXPECT_EQ(stats({"-n3", "--seed=7"}).at("seed"), 7);
  const std::string other = folder_.file("other.gguf");
  chat_model().write(other);
  EXPECT_EQ(stats({other}).at("model"), Json(other));
}

TEST_F(CliSettings, ThatCannotBeAreNamedWithTheirPlace) {
  EXPECT_THAT(refusal("temp 1\n"), HasSubstr(file_ + ":1: is no setting"));
  EXPECT_THAT(refusal("\ntemp =\n"), HasSubstr(":2: is no setting"));
  EXPECT_THAT(refusal("tmep = 1\n"),
              HasSubstr(":1: there is no option 'tmep' (did you mean temp?)"));
  EXPECT_THAT(refusal("[chta]\ntemp = 1\n"), HasSubstr("no command 'chta' (did you mean chat?)"));
  EXPECT_THAT(refusal("[inspect]\ntemp = 1\n"), HasSubstr(":2: there is no option 'temp'"));
  write("[eval]\nno-full = perhaps\n");
  EXPECT_THAT(restkv_process({"eval", "--list"}).err, HasSubstr("expected true or false"));
  setenv("RESTKV_CONFIG", folder_.file("absent").c_str(), 1);
  EXPECT_EQ(restkv_process({"methods"}).exit_code, 1);
}

}  // namespace
}  // namespace restkv
