// Routes without a network.
#include "server/service/local_client.h"

#include <gtest/gtest.h>

#include <string>

#include "server/http/http_error.h"
#include "server/http/router.h"

namespace restkv::server {
namespace {

TEST(LocalClient, GetsWhatARouteSends) {
  Router router;
  router.add("POST", "/echo/{name}", [](HttpRequest request, Responder responder) {
    responder.send_json(200, request.parameter("name") + ": " + request.body);
  });
  const LocalClient client(router);
  EXPECT_TRUE(client.knows("POST", "/echo/a"));
  EXPECT_FALSE(client.knows("GET", "/echo/a"));
  const LocalAnswer answer = client.ask("POST", "/echo/a", "body\r\n\r\nmore");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "a: body\r\n\r\nmore");
}

TEST(LocalClient, GetsErrorsAndWhatNobodyAnswers) {
  Router router;
  router.add("POST", "/refuse", [](HttpRequest, Responder) { throw HttpError(429, "too much"); });
  router.add("POST", "/drop", [](HttpRequest, Responder) {});
  const LocalClient client(router);
  const LocalAnswer refused = client.ask("POST", "/refuse", "");
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.body.find("too much"), std::string::npos);
  EXPECT_EQ(client.ask("POST", "/drop", "").status, 500);
  EXPECT_EQ(client.ask("POST", "/nothing", "").status, 404);
  EXPECT_FALSE(client.knows("POST", "no path"));
}

}  // namespace
}  // namespace restkv::server
