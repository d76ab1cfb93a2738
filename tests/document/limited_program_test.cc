#include "document/limited_program.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::document {
namespace {

using namespace std::chrono_literals;
using ::restkv::testing::refusal;
using ::testing::HasSubstr;
using End = ProgramResult::End;

ProgramResult shell(const char* script, std::string_view input = "", ProgramLimits limits = {}) {
  return run_limited("/bin/sh", {"-c", script}, input, limits);
}

TEST(LimitedProgram, ReadsItsInputAndWritesItsOutput) {
  const std::string input(300'000, 'x');
  const ProgramResult result = shell("cat; echo problem >&2; exit 3", input);
  EXPECT_EQ(result.end, End::kExited);
  EXPECT_EQ(result.value, 3);
  EXPECT_EQ(result.output, input);
  EXPECT_EQ(result.errors, "problem\n");
}

TEST(LimitedProgram, GetsNothingElse) {
  ASSERT_EQ(setenv("RESTKV_TEST_SECRET", "abc", 1), 0);
  const ProgramResult result =
      shell("echo secret=$RESTKV_TEST_SECRET; ls /proc/self/fd | wc -l; nice");
  unsetenv("RESTKV_TEST_SECRET");
  EXPECT_THAT(result.output, HasSubstr("secret=\n"));
}

TEST(LimitedProgram, CannotFillTheDisk) {
  const restkv::testing::TemporaryFolder folder;
  const std::string file = folder.file("file");
  const ProgramResult result = shell(fmt::format("echo text > {}", file).c_str());
  EXPECT_TRUE(result.end == End::kSignalled || result.value != 0);
  std::error_code ignored;
  const auto size = std::filesystem::file_size(file, ignored);
  EXPECT_TRUE(ignored || size == 0);
}

TEST(LimitedProgram, EndsInTime) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(shell("sleep 60", "", {.wall = 200ms}).end, End::kTimedOut);
  EXPECT_EQ(shell("exec >&- 2>&-; while :; do :; done", "", {.wall = 200ms}).end, End::kTimedOut);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
}

TEST(LimitedProgram, EndsWhenItSaysTooMuch) {
  const ProgramResult result = shell("while :; do echo yes; done", "", {.output_bytes = 10'000});
  EXPECT_EQ(result.end, End::kTooMuchOutput);
  EXPECT_EQ(result.output.size(), 10'000U);
  // Of its complaints the beginning is enough.
  const ProgramResult noisy =
      shell("i=0; while [ $i -lt 20000 ]; do echo no >&2; i=$((i+1)); done");
  EXPECT_EQ(noisy.end, End::kExited);
  EXPECT_EQ(noisy.errors.size(), 4096U);
}

TEST(LimitedProgram, HasOnlySoMuchMemory) {
  const ProgramResult result =
      shell("x=0123456789abcdef; while :; do x=$x$x; done", "", {.memory_bytes = 64 << 20});
  EXPECT_TRUE(result.end == End::kSignalled || (result.end == End::kExited && result.value != 0));
}

TEST(LimitedProgram, IsFoundInThePath) {
  EXPECT_TRUE(find_program("sh"));
  EXPECT_FALSE(find_program("no-such-program-of-restkv"));
  EXPECT_FALSE(find_program(""));
  EXPECT_THAT(refusal(ErrorCode::kIo, [] { (void)run_limited("/dev/null", {}, "", {}); }),
              HasSubstr("/dev/null: cannot be started"));
}

}  // namespace
}  // namespace restkv::document
