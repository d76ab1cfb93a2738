#include "server/http/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/http_error.h"
#include "support/refusal.h"

namespace restkv::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

Router two_routes() {
  Router router;
  router.add("POST", "/locked", [](const HttpRequest&, const Responder&) {});
  router.add(
      "GET", "/open", [](const HttpRequest&, const Responder&) {}, Access::kOpen);
  return router;
}

RequestHead head_of(std::string method, std::string_view target, Headers headers) {
  RequestHead head;
  head.method = std::move(method);
  head.target = parse_target(target);
  head.headers = std::move(headers);
  if (head.headers.count("Host") == 0) head.headers.add("Host", "localhost:8080");
  return head;
}

/// The status that the gate answers with itself; 0: it lets pass.
int status(const ServerOptions& options, const RequestHead& head, bool loopback = true) {
  const Router router = two_routes();
  const Gate gate(options, router, loopback);
  try {
    EXPECT_TRUE(gate.admit(head).handler);
    return 0;
  } catch (const HttpError& error) {
    return error.status();
  }
}

int post_with(const ServerOptions& options, Headers headers) {
  return status(options, head_of("POST", "/locked", std::move(headers)));
}

TEST(Gate, FindsRoutes) {
  EXPECT_EQ(status({}, head_of("POST", "/locked", {})), 0);
  EXPECT_EQ(status({}, head_of("GET", "/locked", {})), 405);
  EXPECT_EQ(status({}, head_of("GET", "/other", {})), 404);
  EXPECT_EQ(status({}, head_of("OPTIONS", "/locked", {})), 0);
  EXPECT_EQ(status({}, head_of("OPTIONS", "*", {})), 0);
  EXPECT_EQ(status({}, head_of("GET", "*", {})), 404);
  EXPECT_EQ(status({}, head_of("HEAD", "/open", {})), 0);
}

TEST(Gate, AsksForKeysButOnOpenRoutes) {
  ServerOptions options;
  options.api_keys = {"sk-one", "sk-two"};
  EXPECT_EQ(post_with(options, {}), 401);
  EXPECT_EQ(post_with(options, {{"authorization", "bearer sk-two"}}), 0);
  EXPECT_EQ(post_with(options, {{"X-Api-Key", "sk-one"}}), 0);
  EXPECT_EQ(post_with(options, {{"Authorization", "Basic sk-one"}}), 401);
  EXPECT_EQ(post_with(options, {{"Authorization", "Bearer sk-on"}}), 401);
  EXPECT_EQ(post_with(options, {{"Authorization", "Bearer sk-onee"}}), 401);
  EXPECT_EQ(post_with(options, {{"Authorization", "Bearer "}}), 401);
  EXPECT_EQ(post_with(options, {{"x-api-key", ""}}), 401);
  EXPECT_EQ(status(options, head_of("GET", "/open", {})), 0);
  for (const char* key : {"", " a", "a\n"}) {
    options.api_keys = {key};
    const Router router = two_routes();
    restkv::testing::refusal(ErrorCode::kInvalidArgument, [&] { Gate(options, router, true); });
  }
}

TEST(Gate, KnowsItsHostNames) {
  ServerOptions options;
  options.host = "127.0.0.2";
  options.host_names = {"box.local"};
  for (const char* host : {"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "[::1]",
                           "127.0.0.2", "box.local:80"}) {
    EXPECT_EQ(post_with(options, {{"Host", host}}), 0) << host;
  }
  for (const char* host : {"evil.org", "evil.org:8080", "localhost.evil.org", "10.0.0.1"}) {
    EXPECT_EQ(post_with(options, {{"Host", host}}), 403) << host;
  }
  for (const char* host : {"a@localhost", "localhost:x", "[::1", ":80", "localhost/a"}) {
    EXPECT_EQ(post_with(options, {{"Host", host}}), 400) << host;
  }
  EXPECT_EQ(post_with(options, {{"Host", "localhost"}, {"Host", "localhost"}}), 400);
  EXPECT_EQ(status(options, head_of("POST", "http://evil.org/locked", {})), 403);
  EXPECT_EQ(status(options, head_of("POST", "http://localhost/locked", {})), 0);

  RequestHead none = head_of("POST", "/locked", {});
  none.headers = {};
  EXPECT_EQ(status(options, none), 400);
  none.http_1_0 = true;
  EXPECT_EQ(status(options, none), 0);

  const RequestHead other = head_of("POST", "/locked", {{"Host", "evil.org"}});
  EXPECT_EQ(status(options, other, false), 0);
  options.check_host = false;
  EXPECT_EQ(status(options, other), 0);
}

TEST(Gate, KeepsPagesOfOtherOriginsOut) {
  const Headers from_other{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.org"}};
  EXPECT_EQ(post_with({}, from_other), 403);
  EXPECT_EQ(post_with({}, {{"Sec-Fetch-Site", "same-origin"}}), 0);
  EXPECT_EQ(post_with({}, {{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}}), 403);
  EXPECT_EQ(status({}, head_of("GET", "/open",
                               {{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}})),
            0);
  ServerOptions options;
  options.cors_origins = {"https://good.org"};
  EXPECT_EQ(post_with(options, from_other), 403);
  EXPECT_EQ(post_with(options, {{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://good.org"}}),
            0);
}

TEST(Gate, AnswersOriginsThatMayCall) {
  const Router router = two_routes();
  ServerOptions options;
  EXPECT_THAT(Gate(options, router, true).answer_fields({{"Origin", "https://a.org"}}), IsEmpty());
  options.cors_origins = {"https://a.org", "https://b.org"};
  const Gate gate(options, router, true);
  EXPECT_THAT(gate.answer_fields({{"Origin", "https://b.org"}}),
              Contains(Pair("Access-Control-Allow-Origin", "https://b.org")));
  EXPECT_THAT(gate.answer_fields({{"Origin", "https://c.org"}}),
              ElementsAre(Pair("Vary", "Origin")));
  EXPECT_THAT(gate.answer_fields({}), ElementsAre(Pair("Vary", "Origin")));
  options.cors_origins = {"*"};
  EXPECT_THAT(Gate(options, router, true).answer_fields({}),
              ElementsAre(Pair("Access-Control-Allow-Origin", "*")));
  for (const char* origin : {"", "example.org", "https://example.org/", "https://a.org\r\nX: y"}) {
    options.cors_origins = {origin};
    restkv::testing::refusal(ErrorCode::kInvalidArgument, [&] { Gate(options, router, true); });
  }
}

TEST(Gate, RefusesCompressedBodies) {
  EXPECT_EQ(post_with({}, {{"Content-Encoding", "gzip"}}), 415);
  EXPECT_EQ(post_with({}, {{"Content-Encoding", "identity"}}), 0);
}

}  // namespace
}  // namespace restkv::server
