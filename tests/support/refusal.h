#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "restkv/error.h"

namespace restkv::testing {

/// The message of the `Error` that `call` throws; empty without one. One of another code than
/// `code`, if that is given, fails the test.
template <class Call>
std::string refusal_if_any(std::optional<ErrorCode> code, Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code.value_or(error.code())) << error.what();
    return error.what();
  }
  return "";
}
template <class Call>
std::string refusal_if_any(Call&& call) {
  return refusal_if_any(std::nullopt, std::forward<Call>(call));
}

/// The message of the `Error` that `call` throws. No error, or one of another code, fails the test.
template <class Call>
std::string refusal(ErrorCode code, Call&& call) {
  std::string message = refusal_if_any(code, std::forward<Call>(call));
  EXPECT_NE(message, "") << "nothing was refused";
  return message;
}

}  // namespace restkv::testing
