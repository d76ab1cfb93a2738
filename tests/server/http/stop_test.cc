#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "server/http/client.h"
#include "support/refusal.h"

namespace restkv::server {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Keeps the responders of "GET /wait".
struct Waiting {
  Router router() {
    Router router = test_router();
    router.add("GET", "/wait", [this](const HttpRequest&, Responder responder) {
      responder.on_gone([this] { ++gone; });
      kept.emplace(std::move(responder));
      here = true;
    });
    return router;
  }
  std::atomic<int> gone = 0;
  std::atomic<bool> here = false;
  std::optional<Responder> kept;
};

constexpr const char* kWait = "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n";

TEST(Stop, LetsAnswersFinish) {
  Waiting waiting;
  HttpServer server(test_options(), waiting.router());
  Client idle(server.port());
  Client client(server.port());
  client.send(kWait);
  ASSERT_TRUE(soon([&] { return waiting.here.load(); }));
  std::thread stopper([&] { server.stop(seconds(60)); });
  EXPECT_TRUE(idle.closed(5));
  EXPECT_THROW(Client(server.port()), std::runtime_error);
  waiting.kept->send(200, {}, "done");
  const Answer answer = client.receive();
  EXPECT_EQ(answer.body, "done");
  EXPECT_EQ(answer.headers.value("Connection"), "close");
  client.close();
  const Stopwatch watch;
  stopper.join();
  EXPECT_LT(watch.seconds(), 10);
  EXPECT_EQ(waiting.gone, 0);
  EXPECT_EQ(server.connections(), 0U);
  server.stop(seconds(60));
}

TEST(Stop, CutsAnswersAfterTheGrace) {
  Waiting waiting;
  HttpServer server(test_options(), waiting.router());
  Client client(server.port());
  client.send(kWait);
  ASSERT_TRUE(soon([&] { return waiting.here.load(); }));
  const Stopwatch watch;
  server.stop(milliseconds(100));
  EXPECT_GE(watch.seconds(), 0.1);
  EXPECT_LT(watch.seconds(), 5);
  EXPECT_EQ(waiting.gone, 1);
  EXPECT_TRUE(client.closed(5));
}

TEST(Stop, RespondersOutliveTheServer) {
  Waiting waiting;
  {
    HttpServer server(test_options(), waiting.router());
    Client client(server.port());
    client.send(kWait);
    ASSERT_TRUE(soon([&] { return waiting.here.load(); }));
  }
  EXPECT_TRUE(waiting.kept->gone());
  waiting.kept->begin_stream(200, {});
  EXPECT_FALSE(waiting.kept->write("nobody"));
  waiting.kept->end();
}

TEST(Stop, InTheMiddleOfEverything) {
  for (int round = 0; round < 5; ++round) {
    std::mutex mutex;
    std::vector<std::thread> writers;
    Router router = test_router();
    router.add("GET", "/stream", [&](const HttpRequest&, Responder responder) {
      responder.begin_stream(200, {});
      const std::lock_guard lock(mutex);
      writers.emplace_back([responder]() mutable {
        for (int i = 0; i < 100'000 && responder.write("piece"); ++i) {
        }
        responder.end();
      });
    });
    auto server = std::make_unique<HttpServer>(test_options(), std::move(router));
    std::vector<std::thread> clients;
    for (int i = 0; i < 4; ++i) {
      clients.emplace_back([port = server->port(), i] {
        try {
          for (;;) {
            Client client(port);
            client.send(i % 2 == 0 ? "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                   : "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.receive();
          }
        } catch (const std::runtime_error&) {  // no server any more
        }
      });
    }
    ::usleep(50'000);
    server->stop(milliseconds(round * 20));
    server.reset();
    for (std::thread& client : clients) client.join();
    for (std::thread& writer : writers) writer.join();
  }
}

TEST(Listen, SaysWhatIsInTheWay) {
  using restkv::testing::refusal;
  HttpServer server(test_options(), {});
  ServerOptions options = test_options();
  options.port = server.port();
  EXPECT_THAT(refusal(ErrorCode::kIo, [&] { HttpServer(options, {}); }),
              AllOf(HasSubstr(fmt::format("127.0.0.1:{}", options.port)),
                    HasSubstr("another program"), HasSubstr("another port")));
  options.host = "no such host";
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { HttpServer(options, {}); }),
              AllOf(HasSubstr("\"no such host\""), HasSubstr("127.0.0.1")));
  options.host = "192.0.2.1";  // of nobody, RFC 5737
  EXPECT_THAT(refusal(ErrorCode::kIo, [&] { HttpServer(options, {}); }),
              AllOf(HasSubstr("192.0.2.1"), HasSubstr("0.0.0.0")));
  if (::geteuid() != 0) {
    options.host = "127.0.0.1";
    options.port = 80;
    EXPECT_THAT(refusal(ErrorCode::kIo, [&] { HttpServer(options, {}); }), HasSubstr("1024"));
  }
  options = test_options();
  options.connections = 0;
  refusal(ErrorCode::kInvalidArgument, [&] { HttpServer(options, {}); });
}

TEST(Listen, TakesIpv6AndNames) {
  ServerOptions options = test_options();
  {
    HttpServer server(options, test_router());
    EXPECT_EQ(get(server.port(), "/hello").body, "hello");
    // The same port at once, though the system still remembers connections.
    options.port = server.port();
  }
  { HttpServer again(options, test_router()); }
  options.port = 0;
  for (const char* host : {"::1", "localhost"}) {
    options.host = host;
    try {
      HttpServer server(options, test_router());
      EXPECT_THAT(server.url(), HasSubstr(fmt::format(":{}", server.port())));
    } catch (const Error& error) {  // not every machine has them
      EXPECT_THAT(error.what(), HasSubstr(host));
    }
  }
}

}  // namespace
}  // namespace restkv::server
