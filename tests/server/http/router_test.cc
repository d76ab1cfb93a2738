#include "server/http/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/refusal.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

const Handler kNothing = [](const HttpRequest&, const Responder&) {};

TEST(Router, FindsTheRouteAndItsParameters) {
  Router router;
  router.add("GET", "/", kNothing);
  router.add("GET", "/v1/models", kNothing, Access::kOpen);
  router.add("GET", "/v1/models/{id...}", kNothing);
  router.add("POST", "/v1/documents", kNothing);
  router.add("GET", "/v1/documents/{id}", kNothing);
  router.add("DELETE", "/v1/documents/{id}", kNothing);
  router.add("GET", "/v1/documents/{id}/kept", kNothing);

  EXPECT_NE(router.find("GET", {}).handler, nullptr);
  EXPECT_EQ(router.find("GET", {"v1", "models"}).access, Access::kOpen);
  const Router::Match rest = router.find("GET", {"v1", "models", "org", "name"});
  EXPECT_EQ(rest.access, Access::kWithKey);
  EXPECT_THAT(rest.parameters, ElementsAre(Pair("id", "org/name")));
  EXPECT_THAT(router.find("DELETE", {"v1", "documents", "a b"}).parameters,
              ElementsAre(Pair("id", "a b")));
  EXPECT_NE(router.find("HEAD", {"v1", "documents", "a", "kept"}).handler, nullptr);
}

TEST(Router, TellsAPathWithoutTheMethodFromNoPath) {
  Router router;
  router.add("GET", "/a/{id}", kNothing);
  router.add("DELETE", "/a/{id}", kNothing);
  const Router::Match other = router.find("PUT", {"a", "1"});
  EXPECT_EQ(other.handler, nullptr);
  EXPECT_EQ(other.allow, "DELETE, GET, HEAD, OPTIONS");
  EXPECT_EQ(router.find("GET", {"a"}).allow, "");
  EXPECT_EQ(router.find("GET", {"a", "1", "2"}).allow, "");
  EXPECT_EQ(router.find("GET", {}).allow, "");
}

TEST(Router, RefusesPatternsThatAreNone) {
  for (const char* pattern : {"", "a", "/a//b", "/{}", "/{a", "/a}", "/{a...}/b"}) {
    Router router;
    EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInvalidArgument,
                                         [&] { router.add("GET", pattern, kNothing); }),
                HasSubstr(pattern));
  }
  Router router;
  router.add("GET", "/a", kNothing);
  restkv::testing::refusal(ErrorCode::kInvalidArgument, [&] { router.add("GET", "/a", kNothing); });
}

}  // namespace
}  // namespace restkv::server
