#include "base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>

namespace restkv {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kErase = "\r\x1b[2K";

class ProgressTest : public testing::Test {
 protected:
  Progress make(Progress::Mode mode) {
    return {file_.get(), "prefill", mode, [this] { return now_; }};
  }
  std::string output() {
    std::fflush(file_.get());
    std::rewind(file_.get());
    std::string text;
    for (int c; (c = std::fgetc(file_.get())) != EOF;) text += static_cast<char>(c);
    return text;
  }
  static size_t count(std::string_view text, std::string_view part) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; ++at) ++n;
    return n;
  }

  double now_ = 100;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::tmpfile(), std::fclose};
};

TEST_F(ProgressTest, LinesComeAtEveryTenth) {
  auto progress = make(Progress::Mode::kLines);
  for (int i = 0; i <= 1000; ++i) {
    now_ = 100 + i / 1000.0;
    progress.update(i / 1000.0, "layer");
  }
  progress.finish();
  const std::string text = output();
  EXPECT_EQ(count(text, "\n"), 11u + 1u) << text;
  EXPECT_THAT(text, HasSubstr("prefill: 30% (0:00, 0:01 left) layer\n"));
  EXPECT_THAT(text, HasSubstr("prefill: done in 1.0 s\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST_F(ProgressTest, LinesComeEveryFiveSecondsOfSlowWork) {
  auto progress = make(Progress::Mode::kLines);
  for (int second = 0; second <= 60; ++second) {
    now_ = 100 + second;
    progress.update(second * 0.001);
  }
  EXPECT_EQ(count(output(), "\n"), 13u) << output();
}

TEST_F(ProgressTest, EstimatesTheTimeLeft) {
  auto progress = make(Progress::Mode::kLines);
  now_ += 65;
  progress.update(0.25);
  EXPECT_THAT(output(), HasSubstr("prefill: 25% (1:05, 3:15 left)\n"));
  now_ += 4000;
  progress.update(0.5);
  EXPECT_THAT(output(), HasSubstr("prefill: 50% (1:07:45, 1:07:45 left)\n"));
}

TEST_F(ProgressTest, BarIsRedrawnTenTimesPerSecondAndErased) {
  auto progress = make(Progress::Mode::kBar);
  for (int i = 0; i <= 1024; ++i) {
    now_ = 100 + i / 512.0;  // two seconds
    progress.update(i / 1024.0);
  }
  progress.finish();
  const std::string text = output();
  EXPECT_THAT(text, testing::StartsWith(std::string(kErase) + "prefill [......"));
  EXPECT_THAT(text, HasSubstr("[############............]"));
  EXPECT_THAT(text, testing::EndsWith(kErase));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  EXPECT_GE(count(text, "["), 15u);
  EXPECT_LE(count(text, "prefill"), 21u);
  EXPECT_GE(count(text, "prefill"), 15u);
}

TEST_F(ProgressTest, BarIsErasedWhenAnExceptionPasses) {
  try {
    auto progress = make(Progress::Mode::kBar);
    progress.update(0.5);
    throw 1;
  } catch (int) {
  }
  EXPECT_THAT(output(), testing::EndsWith(kErase));
}

TEST_F(ProgressTest, UnfinishedWorkIsNotCalledDone) {
  { make(Progress::Mode::kLines).update(0.5); }
  EXPECT_THAT(output(), Not(HasSubstr("done")));
}

TEST_F(ProgressTest, BarStaysOnOneRow) {
  {
    auto progress = make(Progress::Mode::kBar);
    progress.update(0.5, "two\nlines " + std::string(500, 'x'));
  }
  const std::string text = output();
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  EXPECT_EQ(text.size(), kErase.size() + 79 + kErase.size());  // 80 columns if it is no terminal
}

TEST_F(ProgressTest, BarIsNeverCutInsideACharacter) {
  {
    auto progress = make(Progress::Mode::kBar);
    std::string detail;
    for (int i = 0; i < 200; ++i) detail += "é";
    progress.update(0.5, detail);
  }
  EXPECT_THAT(output(), testing::EndsWith("é" + std::string(kErase)));
}

TEST_F(ProgressTest, OffAndAutoOnAFile) {
  {
    auto progress = make(Progress::Mode::kOff);
    progress.update(0.5);
    progress.finish();
  }
  EXPECT_EQ(output(), "");
  auto progress = make(Progress::Mode::kAuto);
  progress.update(0.5);
  EXPECT_THAT(output(), HasSubstr("prefill: 50%"));
}

TEST_F(ProgressTest, ClampsTheFraction) {
  for (const double fraction : {-1.0, 7.0, std::numeric_limits<double>::quiet_NaN()}) {
    make(Progress::Mode::kBar).update(fraction);
    make(Progress::Mode::kLines).update(fraction);
  }
  const std::string text = output();
  EXPECT_EQ(count(text, " 0%"), 4u) << text;
  EXPECT_EQ(count(text, "100%"), 2u) << text;
}

}  // namespace
}  // namespace restkv
