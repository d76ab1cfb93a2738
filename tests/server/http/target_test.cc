#include "server/http/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::string path_of(std::string_view target) { return parse_target(target).path; }

int refused(std::string_view target) {
  try {
    parse_target(target);
  } catch (const HttpError& error) {
    return error.status();
  }
  return 0;
}

TEST(Target, PathsAreDecodedAndNormalised) {
  EXPECT_EQ(path_of("/"), "/");
  EXPECT_EQ(path_of("/v1/models"), "/v1/models");
  EXPECT_EQ(path_of("//v1///models/"), "/v1/models");
  EXPECT_EQ(path_of("/a/./b/../c"), "/a/c");
  EXPECT_EQ(path_of("/a/%2e%2E/c"), "/c");
  EXPECT_EQ(path_of("/caf%C3%A9+x"), "/caf\xC3\xA9+x");
  EXPECT_EQ(path_of("http://example.org:80/a?b"), "/a");
  EXPECT_EQ(path_of("HTTP://example.org"), "/");
  EXPECT_EQ(parse_target("http://example.org:80?b").authority, "example.org:80");
  EXPECT_EQ(path_of("*"), "*");
  EXPECT_THAT(parse_target("/models/org%2Fname/x").segments,
              ElementsAre("models", "org/name", "x"));
}

TEST(Target, QueriesAreDecoded) {
  EXPECT_THAT(parse_target("/a?x=1&y=a+b%2Bc&z&=v&&w==").query,
              ElementsAre(Pair("x", "1"), Pair("y", "a b+c"), Pair("z", ""), Pair("", "v"),
                          Pair("w", "=")));
  EXPECT_THAT(parse_target("/a?").query, ElementsAre());
}

TEST(Target, WhatLeadsElsewhereIsRefused) {
  for (const char* target : {"/..",
                             "/a/../..",
                             "/%2e%2e/etc/passwd",
                             "/a/..%2f..%2fetc",
                             "/a/%2e%2e%2fb",
                             "/a%00b",
                             "/a%0d%0ab",
                             "/a%7F",
                             "/%",
                             "/%4",
                             "/%zz",
                             "/a%c3",
                             "/?q=%",
                             "/?q=%00",
                             "/?q=%ff",
                             "/a#b",
                             "",
                             "a",
                             "example.org:443",
                             "https://example.org/",
                             "http://",
                             "http:///a",
                             "ftp://a/b"}) {
    EXPECT_EQ(refused(target), 400) << target;
  }
}

}  // namespace
}  // namespace restkv::server
