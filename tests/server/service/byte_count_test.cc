#include "cli/byte_count.h"

#include <gtest/gtest.h>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::cli {
namespace {

using restkv::testing::refusal;

TEST(ByteCount, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_byte_count("1000", "--memory"), 1000);
  EXPECT_EQ(parse_byte_count("8GiB", "--memory"), size_t{8} << 30);
  EXPECT_EQ(parse_byte_count("8G", "--memory"), size_t{8} << 30);
  EXPECT_EQ(parse_byte_count("8GB", "--memory"), 8'000'000'000);
  EXPECT_EQ(parse_byte_count("1.5K", "--memory"), 1536);
  EXPECT_EQ(parse_duration("10", "--grace"), 10'000);
  EXPECT_EQ(parse_duration("10s", "--grace"), 10'000);
  EXPECT_EQ(parse_duration("250ms", "--grace"), 250);
  EXPECT_EQ(parse_duration("2m", "--grace"), 120'000);
}

TEST(ByteCount, RefusesTheRest) {
  for (const char* text : {"", "GiB", "-1", "8 GiB", "8gib", "nan", "1e300", "8GiBs"}) {
    const std::string message =
        refusal(ErrorCode::kInvalidArgument, [&] { (void)parse_byte_count(text, "--memory"); });
    EXPECT_NE(message.find("--memory is '" + std::string(text) + "'"), std::string::npos)
        << message;
  }
  for (const char* text : {"", "s", "-1s", "1h"}) {
    EXPECT_NE(refusal(ErrorCode::kInvalidArgument, [&] { (void)parse_duration(text, "--grace"); })
                  .find("--grace"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace restkv::cli
