#include "base/line_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::restkv::testing::refusal;
using ::testing::HasSubstr;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(LineFileTest, GoesOnBehindWholeLines) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("lines");
  { LineFile(path).append("one"); }
  std::ofstream(path, std::ios::app) << "two\ntorn";
  {
    LineFile file(path);
    EXPECT_EQ(file.lines(), "one\ntwo\n");
    EXPECT_EQ(file.torn_line(), "torn");
    EXPECT_EQ(content(path), "one\ntwo\ntorn") << "nothing changes until it is asked for";
    file.remove_torn_line();
    EXPECT_EQ(file.torn_line(), "");
    file.append("three");
  }
  EXPECT_EQ(content(path), "one\ntwo\nthree\n");
}

TEST(LineFileTest, IsForOneProcessAtATime) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("lines");
  const LineFile file(path);
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { LineFile second(path); }),
              HasSubstr(path + " is being written by another process"));
}

TEST(LineFileTest, LeavesNothingBehindWhereNothingWasWritten) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("lines");
  { const LineFile file(path); }
  EXPECT_FALSE(std::filesystem::exists(path));
  std::ofstream(path).close();
  { const LineFile file(path); }
  EXPECT_TRUE(std::filesystem::exists(path)) << "it was there before";
}

TEST(LineFileTest, NamesAFileThatCannotBeWritten) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("none/lines");
  EXPECT_THAT(refusal(ErrorCode::kIo, [&] { LineFile file(path); }), HasSubstr(path));
}

}  // namespace
}  // namespace restkv
