#include "base/caught_error.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>

namespace restkv {
namespace {

template <class Thrown>
Error caught(const Thrown& thrown) {
  try {
    throw thrown;
  } catch (...) {
    return caught_error();
  }
}

TEST(CaughtError, LeavesErrorsAsTheyAre) {
  const Error error = caught(Error(ErrorCode::kUnsupported, "no such thing"));
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_STREQ(error.what(), "no such thing");
}

TEST(CaughtError, HasACodeForEverythingElse) {
  EXPECT_EQ(caught(std::bad_alloc()).code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(caught(std::bad_array_new_length()).code(), ErrorCode::kOutOfMemory);
  const std::filesystem::filesystem_error full("cannot write x", {});
  EXPECT_EQ(caught(full).code(), ErrorCode::kIo);
  const Error bug = caught(std::out_of_range("vector::at"));
  EXPECT_EQ(bug.code(), ErrorCode::kInternal);
  EXPECT_NE(std::string(bug.what()).find("vector::at"), std::string::npos);
  EXPECT_EQ(caught(5).code(), ErrorCode::kInternal);
}

TEST(ErrorCodes, StayAndLeaveZeroToSuccess) {
  EXPECT_EQ(static_cast<int>(ErrorCode::kInvalidArgument), 1);
  EXPECT_EQ(static_cast<int>(ErrorCode::kInput), 2);
  EXPECT_EQ(static_cast<int>(ErrorCode::kUnsupported), 3);
  EXPECT_EQ(static_cast<int>(ErrorCode::kIo), 4);
  EXPECT_EQ(static_cast<int>(ErrorCode::kInterrupted), 5);
  EXPECT_EQ(static_cast<int>(ErrorCode::kOutOfMemory), 6);
  EXPECT_EQ(static_cast<int>(ErrorCode::kInternal), 7);
}

}  // namespace
}  // namespace restkv
