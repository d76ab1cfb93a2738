// Requests and answers over sockets, as they should be.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "base/json.h"
#include "server/http/client.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(HttpServer, AnswersOneRequestAfterTheOther) {
  HttpServer server(test_options(), test_router());
  EXPECT_EQ(server.url(), fmt::format("http://127.0.0.1:{}", server.port()));
  Client client(server.port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.send(post("/echo", fmt::format("number {}", i))));
    const Answer answer = client.receive();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, fmt::format("number {}", i));
  }
  EXPECT_EQ(server.connections(), 1U);
}

TEST(HttpServer, AnswersPipelinedRequestsInOrder) {
  std::atomic<int> at_a_time = 0;
  std::atomic<int> most = 0;
  std::vector<std::thread> threads;
  std::mutex mutex;
  Router router = test_router();
  router.add("GET", "/slow/{n}", [&](const HttpRequest& request, Responder responder) {
    most = std::max<int>(most, ++at_a_time);
    const std::lock_guard lock(mutex);
    threads.emplace_back([&, responder, n = request.parameter("n")]() mutable {
      ::usleep(n == "0" ? 50'000 : 1000);
      --at_a_time;
      responder.send(200, {}, n);
    });
  });
  HttpServer server(test_options(), std::move(router));
  Client client(server.port());
  std::string all;
  for (int i = 0; i < 20; ++i) {
    all += fmt::format("GET /slow/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", i);
    all += post("/echo", fmt::format("echo {}", i));
  }
  client.send(all);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(client.receive().body, fmt::format("{}", i));
    EXPECT_EQ(client.receive().body, fmt::format("echo {}", i));
  }
  EXPECT_EQ(most, 1);
  for (std::thread& thread : threads) thread.join();
}

TEST(HttpServer, AnswersThousandsOfPipelinedRequestsAtOnce) {
  HttpServer server(test_options(), test_router());
  Client client(server.port());
  constexpr int kCount = 3000;
  std::thread sender([&] {
    std::string all;
    for (int i = 0; i < kCount; ++i) all += "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(all);
  });
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(client.receive().body, "hello");
  sender.join();
}

TEST(HttpServer, HandsOverWholeRequests) {
  HttpRequest seen;
  Router router;
  router.add("POST", "/v1/documents/{id}", [&](HttpRequest request, Responder responder) {
    seen = std::move(request);
    responder.send_json(200, "{}");
  });
  HttpServer server(test_options(), std::move(router));
  const Answer answer =
      ask(server.port(),
          "POST /v1//documents/a%20b/?q=1&q=2 HTTP/1.1\r\nHost: localhost\r\nX-One: two\r\n"
          "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
  EXPECT_EQ(answer.headers.value("Content-Type"), "application/json");
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.path, "/v1/documents/a b");
  EXPECT_EQ(seen.parameter("id"), "a b");
  EXPECT_EQ(*seen.query_value("q"), "1");
  EXPECT_EQ(seen.query_value("r"), nullptr);
  EXPECT_EQ(seen.headers.value("x-one"), "two");
  EXPECT_EQ(seen.body, "abcd");
  EXPECT_THAT(seen.peer, StartsWith("127.0.0.1:"));
}

TEST(HttpServer, SendsLargeBodiesBothWays) {
  HttpServer server(test_options(), test_router());
  std::string body(size_t{20} << 20, 'x');
  for (size_t i = 0; i < body.size(); i += 1000) body[i] = static_cast<char>('a' + i / 1000 % 26);
  const Answer answer = ask(server.port(), post("/echo", body));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, body);
}

Router stream_router() {
  Router router = test_router();
  router.add("GET", "/stream", [](const HttpRequest&, Responder responder) {
    responder.begin_stream(200, {{"Content-Type", "text/event-stream"}});
    std::thread([responder]() mutable {
      for (int i = 0; i < 5; ++i) responder.write(fmt::format("data: {}\n\n", i));
      responder.end();
    }).detach();
  });
  return router;
}

TEST(HttpServer, StreamsInChunks) {
  HttpServer server(test_options(), stream_router());
  Client client(server.port());
  for (int i = 0; i < 2; ++i) {
    client.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answer answer = client.receive();
    EXPECT_TRUE(answer.complete);
    EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
    EXPECT_EQ(answer.headers.value("Cache-Control"), "no-cache");
    EXPECT_EQ(answer.headers.value("X-Accel-Buffering"), "no");
  }
}

TEST(HttpServer, SendsEachPieceAtOnce) {
  std::mutex mutex;
  std::vector<Responder> responders;
  Router router;
  router.add("GET", "/", [&](const HttpRequest&, Responder responder) {
    responder.begin_stream(200, {});
    const std::lock_guard lock(mutex);
    responders.push_back(responder);
  });
  HttpServer server(test_options(), std::move(router));
  Client client(server.port());
  client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(client.receive_until("\r\n\r\n"), HasSubstr("200"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(responders[0].write("piece"));
    EXPECT_EQ(client.receive_until("\r\npiece\r\n"), "5\r\npiece\r\n");
  }
  responders[0].end();
  EXPECT_EQ(client.receive_until("\r\n\r\n"), "0\r\n\r\n");
}

TEST(HttpServer, ServesHttp10) {
  HttpServer server(test_options(), stream_router());
  {
    Client client(server.port());
    client.send("GET /stream HTTP/1.0\r\n\r\n");
    const std::string all = client.receive_all();
    EXPECT_THAT(all, Not(HasSubstr("chunked")));
    EXPECT_THAT(all, ::testing::EndsWith("\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"
                                         "data: 4\n\n"));
  }
  Client client(server.port());
  client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(client.receive().headers.value("Connection"), "keep-alive");
  client.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.receive().body, "hello");
  EXPECT_TRUE(client.closed(5));
}

TEST(HttpServer, AnswersHeadWithoutABody) {
  HttpServer server(test_options(), stream_router());
  Client client(server.port());
  client.send("HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.receive(true).headers.value("Content-Length"), "5");
  client.send("HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.receive(true).status, 200);
  client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.receive().body, "hello");
}

TEST(HttpServer, SaysWhatAPathHas) {
  ServerOptions options = test_options();
  options.cors_origins = {"https://a.org"};
  options.api_keys = {"key"};
  HttpServer server(options, test_router());
  EXPECT_EQ(ask(server.port(), "OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .headers.value("Allow"),
            "OPTIONS, POST");
  EXPECT_EQ(ask(server.port(), "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 204);
  const Answer wrong = ask(server.port(), "PUT /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.value("Allow"), "OPTIONS, POST");
  const Answer preflight =
      ask(server.port(),
          "OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.org\r\n"
          "Access-Control-Request-Method: POST\r\n"
          "Access-Control-Request-Headers: authorization,content-type\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.value("Access-Control-Allow-Origin"), "https://a.org");
  EXPECT_EQ(preflight.headers.value("Access-Control-Allow-Methods"), "OPTIONS, POST");
  EXPECT_EQ(preflight.headers.value("Access-Control-Allow-Headers"), "authorization,content-type");
  const Answer locked = ask(server.port(), post("/echo", "a", "Origin: https://a.org\r\n"));
  EXPECT_EQ(locked.status, 401);
  EXPECT_EQ(locked.headers.value("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(locked.headers.value("Access-Control-Allow-Origin"), "https://a.org");
}

TEST(HttpServer, AsksForABodyThatIsExpected) {
  HttpServer server(test_options(), test_router());
  Client client(server.port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: "
      "100-continue\r\n\r\n");
  EXPECT_EQ(client.receive_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ab");
  EXPECT_EQ(client.receive().body, "ab");
  // Who is refused is not asked for the body.
  client.send(
      "POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: "
      "100-continue\r\n\r\n");
  EXPECT_EQ(client.receive().status, 404);
}

TEST(HttpServer, TurnsExceptionsIntoErrors) {
  std::vector<std::string> told;
  ServerOptions options = test_options();
  options.error_log = [&](const std::string& message) { told.push_back(message); };
  Router router;
  router.add("GET", "/refused", [](const HttpRequest&, const Responder&) {
    throw HttpError(429, "too many", {.code = "slow_down", .retry_after = 7});
  });
  router.add("GET", "/broken", [](const HttpRequest&, const Responder&) {
    throw std::runtime_error("/secret/path is missing");
  });
  router.add("GET", "/forgotten", [](const HttpRequest&, const Responder&) {});
  router.add("GET", "/halfway", [](const HttpRequest&, Responder responder) {
    responder.begin_stream(200, {});
    responder.write("a");
    throw std::runtime_error("later");
  });
  HttpServer server(options, std::move(router));
  const Answer refused = get(server.port(), "/refused");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.value("Retry-After"), "7");
  const Json error = parse_json(refused.body)["error"];
  EXPECT_EQ(error["message"].text(), "too many");
  EXPECT_EQ(error["type"].text(), "rate_limit_error");
  EXPECT_EQ(error["code"].text(), "slow_down");
  EXPECT_TRUE(error["param"].is_null());
  const Answer broken = get(server.port(), "/broken");
  EXPECT_EQ(broken.status, 500);
  EXPECT_THAT(broken.body, Not(HasSubstr("secret")));
  EXPECT_EQ(get(server.port(), "/forgotten").status, 500);
  EXPECT_FALSE(get(server.port(), "/halfway").complete);
  server.stop(std::chrono::seconds(0));
  EXPECT_THAT(
      told,
      ElementsAre(::testing::MatchesRegex("req-[0-9a-f]+ GET /broken: /secret/path is missing"),
                  ::testing::MatchesRegex("req-[0-9a-f]+ GET /halfway: later")));
}

TEST(HttpServer, RequestsHaveIds) {
  std::vector<AccessEntry> entries;
  ServerOptions options = test_options();
  options.access_log = [&](const AccessEntry& entry) { entries.push_back(entry); };
  HttpServer server(options, test_router());
  Client client(server.port());
  const auto id_for = [&](const std::string& fields) {
    client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n");
    return std::string(client.receive().headers.value("X-Request-Id"));
  };
  EXPECT_EQ(id_for("x-request-id: chat-7:a_b.c\r\n"), "chat-7:a_b.c");
  const std::string made = id_for("");
  EXPECT_THAT(made, ::testing::MatchesRegex("req-[0-9a-f]{32}"));
  EXPECT_NE(id_for(""), made);
  for (const std::string& bad :
       {std::string("a b"), std::string("a/b"), std::string(129, 'a'), std::string()}) {
    EXPECT_THAT(id_for("X-Request-Id: " + bad + "\r\n"), StartsWith("req-")) << bad;
  }
  EXPECT_THAT(std::string(ask(server.port(), "nonsense\r\n\r\n").headers.value("X-Request-Id")),
              StartsWith("req-"));
  server.stop(std::chrono::seconds(0));
  ASSERT_EQ(entries.size(), 8U);
  EXPECT_EQ(entries[0].id, "chat-7:a_b.c");
  EXPECT_EQ(entries[1].id, made);
  EXPECT_THAT(entries[7].id, StartsWith("req-"));
  EXPECT_EQ(parse_json(json_line(entries[1]))["id"].text(), made);
}

TEST(HttpServer, LogsWithoutSecrets) {
  std::vector<AccessEntry> entries;
  ServerOptions options = test_options();
  options.access_log = [&](const AccessEntry& entry) { entries.push_back(entry); };
  HttpServer server(options, test_router());
  get(server.port(), "/hello?api_key=secret");
  ask(server.port(), "nonsense\r\n\r\n");
  {
    Client client(server.port());
    client.send("GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_TRUE(soon([&] { return server.connections() > 0; }));
    ::usleep(20'000);
  }
  ASSERT_TRUE(soon([&] { return server.connections() == 0; }, 5));
  server.stop(std::chrono::seconds(0));
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_THAT(text_line(entries[0]),
              ::testing::MatchesRegex("127\\.0\\.0\\.1:[0-9]+ \"GET /hello\" 200 [0-9]+ "
                                      "[0-9.]+s req-[0-9a-f]+"));
  EXPECT_EQ(entries[1].status, 400);
  EXPECT_EQ(entries[1].method, "");
  EXPECT_EQ(entries[2].status, 499);
  EXPECT_TRUE(entries[2].cut);
  const Json line = parse_json(json_line(entries[0]));
  EXPECT_EQ(line["path"].text(), "/hello");
  EXPECT_EQ(line["status"].get<int>(), 200);
  EXPECT_EQ(
      text_line({.peer = "p", .method = "GET", .path = "/a\xE2\x80\xAE", .id = {}, .status = 404}),
      "p \"GET /a?\" 404 0 0.000s");
}

}  // namespace
}  // namespace restkv::server
