#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "server/http/http_error.h"
#include "server/openai/limits.h"

namespace restkv::server {

/// Limits as a small server would set them.
inline RequestLimits small_limits() {
  RequestLimits limits;
  limits.vocabulary = 1000;
  limits.context = 2048;
  limits.max_tokens = 4096;
  limits.default_max_tokens = 512;
  limits.max_budget = 2048;
  return limits;
}

/// "param: message" of the refusal with status 400 that `call` throws; fails the test without one.
template <class Call>
std::string api_refusal(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 400) << error.what();
    return error.details().param + ": " + error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace restkv::server
