#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "server/service/served_model.h"

namespace restkv::server {
namespace {

using testing::Answer;
using testing::ServedModel;
using testing::soon;

TEST(StatusRoutes, TellWhatThereIs) {
  const ServedModel served;
  EXPECT_EQ(served.get_json("/health")["status"].text(), "ok");
  const std::string id = served.get_json("/v1/models")["data"][size_t{0}]["id"].text();
  EXPECT_EQ(id, "random");
  EXPECT_EQ(served.get_json("/v1/models/" + id)["id"].text(), id);
  (void)served.get_json("/v1/models/other", 404);
  const Json props = served.get_json("/props");
  EXPECT_EQ(props["n_ctx"].get<int>(), 2048);
  EXPECT_EQ(served.get_json("/slots").size(), 0);
  const Json& methods = props["restkv"]["methods"];
  EXPECT_GT(methods.size(), 10);
  EXPECT_EQ(std::ranges::count(methods, Json("full")), 1);
  EXPECT_EQ(std::ranges::count(methods, Json("kvzap")), 0) << "it needs a file";
  for (const Json& method : methods) {
    (void)served.post_json("/v1/completions",
                           Json::object({{"prompt", "Once"},
                                         {"max_tokens", 1},
                                         {"restkv", Json::object({{"method", method}})}}));
  }
  ServiceOptions cuts_all;
  cuts_all.limits.full_cache = false;
  const Json fewer = ServedModel(cuts_all).get_json("/props")["restkv"]["methods"];
  EXPECT_EQ(std::ranges::count(fewer, Json("full")), 0);
  EXPECT_EQ(served.get_json("/tokenizer_info")["eos_token"].text(), "<|im_end|>");
}

TEST(StatusRoutes, SlotsThatOnlyKeepSomethingAreNotBusy) {
  const ServedModel served;
  (void)served.post_json("/v1/documents", Json::object({{"text", "A short text."}}));
  (void)served.post_json("/v1/completions", Json::object({{"prompt", "Once"}, {"max_tokens", 1}}));
  // It is as of a moment ago.
  EXPECT_TRUE(soon([&] {
    std::string states;
    for (const Json& slot : served.get_json("/slots")) {
      states += slot["state"].text() + (slot["is_processing"].get<bool>() ? "! " : " ");
    }
    return states == "kept document ";
  }));
}

TEST(StatusRoutes, MetricsCount) {
  const ServedModel served;
  (void)served.post_json("/v1/completions",
                         Json::object({{"prompt", "Once"}, {"max_tokens", 3}, {"min_tokens", 3}}));
  // They are as of a moment ago.
  const auto shown = [&](const char* line) {
    return soon([&] {
      return testing::get(served.port(), "/metrics").body.find(line) != std::string::npos;
    });
  };
  EXPECT_TRUE(shown("\nrestkv_requests_completed_total 1\n"));
  EXPECT_TRUE(shown("\nrestkv_tokens_generated_total 3\n"));
}

TEST(StatusRoutes, ThePageIsThereWithoutAKey) {
  ServerOptions http = testing::test_options();
  http.api_keys = {"secret"};
  const ServedModel served({}, http);
  const Answer page = testing::get(served.port(), "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.headers.find("Content-Security-Policy"), nullptr);
  EXPECT_NE(page.body.find("<html"), std::string::npos);
  EXPECT_EQ(testing::get(served.port(), "/health").status, 200);
  EXPECT_EQ(testing::get(served.port(), "/v1/models").status, 401);
  EXPECT_EQ(served.post("/v1/chat/completions", Json::object()).status, 401);
}

TEST(StatusRoutes, ClientsWaitUntilTheModelIsLoaded) {
  const ServiceSlot empty;
  Workers workers(1);
  HttpServer door(testing::test_options(), make_routes(workers, workers, empty, {}));
  EXPECT_EQ(testing::get(door.port(), "/health").status, 503);
  const Answer models = testing::get(door.port(), "/v1/models");
  EXPECT_EQ(models.status, 503);
  EXPECT_NE(models.headers.find("Retry-After"), nullptr);
}

}  // namespace
}  // namespace restkv::server
