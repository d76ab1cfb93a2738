#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "restkv/error.h"

namespace restkv::testing {

/// The message of the `Error` that `call` throws. No error, or one of another code, fails the test.
template <class Call>
std::string refusal(ErrorCode code, Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace restkv::testing
