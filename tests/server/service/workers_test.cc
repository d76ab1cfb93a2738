// Threads for what would hold up others.
#include "server/service/workers.h"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/http/http_error.h"
#include "server/http/router.h"
#include "server/service/local_client.h"

namespace restkv::server {
namespace {

TEST(Workers, MakeTheRestOfAnAnswer) {
  std::vector<std::string> errors;
  Workers workers(1);
  const Workers::Later later =
      workers.later([&](const std::string& error) { errors.push_back(error); });
  Router router;
  std::thread::id asked;
  std::thread::id answered;
  router.add("GET", "/rest", [&](const HttpRequest&, Responder responder) {
    asked = std::this_thread::get_id();
    later(std::move(responder), [&](Responder& answer) {
      answered = std::this_thread::get_id();
      answer.send_json(200, "{}");
    });
  });
  router.add("GET", "/refused", [&](const HttpRequest&, Responder responder) {
    later(std::move(responder), [](Responder&) { throw HttpError(409, "not now"); });
  });
  router.add("GET", "/broken", [&](const HttpRequest&, Responder responder) {
    later(std::move(responder), [](Responder&) { throw std::runtime_error("the reason"); });
  });
  const LocalClient client(router);
  EXPECT_EQ(client.ask("GET", "/rest", "").status, 200);
  EXPECT_NE(asked, answered);
  EXPECT_EQ(client.ask("GET", "/refused", "").status, 409);
  const LocalAnswer broken = client.ask("GET", "/broken", "");
  EXPECT_EQ(broken.status, 500);
  EXPECT_EQ(broken.body.find("the reason"), std::string::npos);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_NE(errors[0].find("the reason"), std::string::npos);
}

TEST(Workers, GiveUpWhatIsLeftWhenTheyHaveGone) {
  std::optional<Workers> workers(std::in_place, 1);
  const Workers::Later later = workers->later({});
  workers.reset();
  Router router;
  router.add("GET", "/rest", [&](const HttpRequest&, Responder responder) {
    later(std::move(responder), [](Responder& answer) { answer.send_json(200, "{}"); });
  });
  EXPECT_EQ(LocalClient(router).ask("GET", "/rest", "").status, 500);
}

}  // namespace
}  // namespace restkv::server
