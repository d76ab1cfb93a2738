// Clients that take more than their share.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "server/http/client.h"
#include "support/sanitizers.h"

namespace restkv::server {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)
using std::chrono::milliseconds;

constexpr const char* kHello = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

TEST(Limits, ConnectionsAtRestAreClosed) {
  ServerOptions options = test_options();
  options.idle_timeout = milliseconds(150);
  HttpServer server(options, test_router());
  Client silent(server.port());
  Client client(server.port());
  client.send(kHello);
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_TRUE(client.closed(5));
  EXPECT_TRUE(silent.closed(5));
}

TEST(Limits, SlowHeadersAreCut) {
  ServerOptions options = test_options();
  options.header_timeout = milliseconds(300);
  HttpServer server(options, test_router());
  Client client(server.port());
  const Stopwatch watch;
  client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n");
  // A byte now and then does not help.
  std::thread drip([&] {
    for (int i = 0; i < 100 && client.send("x"); ++i) ::usleep(20'000);
  });
  EXPECT_EQ(client.receive().status, 408);
  EXPECT_LT(watch.seconds(), 3);
  client.half_close();
  drip.join();
}

TEST(Limits, SlowBodiesAreCut) {
  ServerOptions options = test_options();
  options.body_timeout = milliseconds(300);
  options.body_rate = 1000;
  HttpServer server(options, test_router());
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
  Client silent(server.port());
  silent.send(head + std::string(50'000, 'x'));
  EXPECT_EQ(silent.receive().status, 408);  // the bytes that came do not buy time

  Client slow(server.port());
  slow.send(head);
  std::thread drip([&] {
    for (int i = 0; i < 300 && slow.send("x"); ++i) ::usleep(20'000);
  });
  EXPECT_EQ(slow.receive().status, 408);
  slow.half_close();
  drip.join();

  Client fair(server.port());
  fair.send(head);
  for (int i = 0; i < 20; ++i) {
    fair.send(std::string(5000, 'x'));
    ::usleep(30'000);
  }
  EXPECT_EQ(fair.receive().status, 200);
}

TEST(Limits, BodiesInAllHaveALimit) {
  ServerOptions options = test_options();
  options.bodies_limit = 100'000;
  HttpServer server(options, test_router());
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n";
  Client first(server.port());
  first.send(head + std::string(60'000, 'x'));
  ::usleep(100'000);
  Client second(server.port());
  second.send(head + std::string(60'000, 'x'));
  const Answer answer = second.receive();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.value("Retry-After"), "1");
  first.send(std::string(30'000, 'x'));
  EXPECT_EQ(first.receive().status, 200);
  EXPECT_EQ(ask(server.port(), head + std::string(90'000, 'x')).status, 200);
}

TEST(Limits, ABodyCountsForAsLongAsItsRequestLives) {
  ServerOptions options = test_options();
  options.bodies_limit = 100'000;
  std::mutex mutex;
  std::vector<HttpRequest> kept;
  std::vector<Responder> responders;
  Router router = test_router();
  router.add("POST", "/keep", [&](HttpRequest request, Responder responder) {
    const std::scoped_lock lock(mutex);
    kept.push_back(std::move(request));
    responders.push_back(std::move(responder));
  });
  HttpServer server(options, std::move(router));
  const std::string body(90'000, 'x');
  Client first(server.port());
  first.send(post("/keep", body));
  ASSERT_TRUE(soon([&] {
    const std::scoped_lock lock(mutex);
    return kept.size() == 1;
  }));
  // It has been received, but nobody has looked at it yet.
  EXPECT_EQ(ask(server.port(), post("/echo", body)).status, 503);
  EXPECT_EQ(ask(server.port(), post("/echo", "small")).status, 200);
  {
    const std::scoped_lock lock(mutex);
    kept.clear();
  }
  EXPECT_EQ(ask(server.port(), post("/echo", body)).status, 200);
  responders.front().send(200, {}, "late");
  EXPECT_EQ(first.receive().status, 200);
}

/// A stream without end to each client.
class Fountain {
 public:
  Router router() {
    Router router = test_router();
    router.add("GET", "/fountain", [this](const HttpRequest&, Responder responder) {
      responder.on_gone([this] { ++gone_; });
      responder.begin_stream(200, {});
      const std::lock_guard lock(mutex_);
      threads_.emplace_back([this, responder]() mutable {
        const std::string piece(10'000, 'x');
        while (!stop_ && responder.write(piece)) ::usleep(100);
      });
    });
    return router;
  }
  ~Fountain() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  [[nodiscard]] int gone() const { return gone_; }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> gone_ = 0;
};

TEST(Limits, ReadersThatDoNotReadAreCut) {
  Fountain fountain;
  ServerOptions options = test_options();
  options.stream_buffer = 100'000;
  HttpServer server(options, fountain.router());
  Client client(server.port(), 10'000);
  client.send("GET /fountain HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(soon([&] { return fountain.gone() == 1; }));
  EXPECT_TRUE(soon([&] { return server.connections() == 0; }));
  EXPECT_EQ(get(server.port(), "/hello").body, "hello");
}

TEST(Limits, ReadersThatStopReadingAreCutAfterAWhile) {
  ServerOptions options = test_options();
  options.write_timeout = milliseconds(200);
  Router router = test_router();
  router.add("GET", "/large", [](const HttpRequest&, Responder responder) {
    responder.send(200, {}, std::string(size_t{30} << 20, 'x'));
  });
  HttpServer server(options, std::move(router));
  Client client(server.port(), 10'000);
  client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(soon([&] { return server.connections() == 1; }));
  EXPECT_TRUE(soon([&] { return server.connections() == 0; }, 5));
}

TEST(Limits, WhoClosesAHalfIsNotAnsweredForEver) {
  ServerOptions options = test_options();
  options.write_timeout = milliseconds(150);
  std::mutex mutex;
  std::vector<Responder> kept;
  Router router;
  router.add("GET", "/", [&](const HttpRequest&, Responder responder) {
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(responder));
  });
  HttpServer server(options, std::move(router));
  Client client(server.port());
  client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.half_close();
  EXPECT_TRUE(client.closed(5));
}

TEST(Limits, ClientsThatVanishAreNoticedWhileNothingIsWritten) {
  std::atomic<int> waiting = 0;
  std::atomic<int> gone = 0;
  std::mutex mutex;
  std::vector<Responder> kept;
  Router router = test_router();
  router.add("GET", "/wait", [&](const HttpRequest&, Responder responder) {
    responder.on_gone([&] { ++gone; });
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(responder));
    ++waiting;
  });
  HttpServer server(test_options(), std::move(router));
  for (int way = 0; way < 3; ++way) {
    Client client(server.port());
    client.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_TRUE(soon([&] { return waiting == way + 1; }));
    EXPECT_FALSE(kept[static_cast<size_t>(way)].gone());
    const Stopwatch watch;
    if (way == 0) client.close();
    if (way == 1) client.reset();
    if (way == 2) client.half_close();
    EXPECT_TRUE(soon([&] { return gone == way + 1; }));
    EXPECT_LT(watch.seconds(), 1);
    EXPECT_TRUE(kept[static_cast<size_t>(way)].gone());
    // An answer to one who closed only a half still arrives.
    kept[static_cast<size_t>(way)].send(200, {}, "late");
    if (way == 2) {
      EXPECT_EQ(client.receive().body, "late");
    }
  }
  EXPECT_TRUE(soon([&] { return server.connections() == 0; }));
}

TEST(Limits, WritingToClientsThatAreGoneKillsNothing) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  Fountain fountain;
  HttpServer server(test_options(), fountain.router());
  for (int i = 0; i < 10; ++i) {
    Client client(server.port());
    client.send("GET /fountain HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.receive_until("\r\n\r\n");
    i % 2 == 0 ? client.close() : client.reset();
  }
  EXPECT_TRUE(soon([&] { return fountain.gone() == 10; }));
}

TEST(Limits, AThousandConnectionsAtOnceAndNotMore) {
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  if (descriptors.rlim_max < 2200) GTEST_SKIP() << "not enough file descriptors";

  HttpServer server(test_options(), test_router());
  std::vector<Client> clients;
  clients.reserve(1000);
  for (int i = 0; i < 1000; ++i) clients.emplace_back(server.port());
  ASSERT_TRUE(soon([&] { return server.connections() == 1000; }));
  const Answer more = get(server.port(), "/hello");
  EXPECT_EQ(more.status, 503);
  EXPECT_EQ(more.headers.value("Retry-After"), "1");
  EXPECT_EQ(more.headers.value("Connection"), "close");
  for (Client& client : clients) ASSERT_TRUE(client.send(kHello));
  for (Client& client : clients) ASSERT_EQ(client.receive().body, "hello");
  clients.clear();
  ASSERT_TRUE(soon([&] { return server.connections() == 0; }));
  EXPECT_EQ(get(server.port(), "/hello").body, "hello");
}

TEST(Limits, DescriptorsStayFlat) {
  HttpServer server(test_options(), test_router());
  get(server.port(), "/hello");
  ASSERT_TRUE(soon([&] { return server.connections() == 0; }));
  const size_t before = open_descriptors();
  const int connections = 1000;
  for (int i = 0; i < connections; ++i) {
    Client client(server.port());
    for (int j = 0; j < 9; ++j) {
      ASSERT_TRUE(client.send(kHello));
      ASSERT_EQ(client.receive().status, 200);
    }
    client.send(i % 3 == 0 ? "nonsense" : "GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n");
    if (i % 2 == 0) client.reset();
  }
  ASSERT_TRUE(soon([&] { return server.connections() == 0; }));
  EXPECT_EQ(open_descriptors(), before);
}

/// As long as it lives, the process can open nothing more.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 1;  // `poll` does not take more than that
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(Limits, WithoutDescriptorsTheServerWaits) {
  // UndefinedBehaviorSanitizer opens a pipe to look whether memory can be read.
  if (restkv::testing::sanitized()) GTEST_SKIP() << "a sanitizer needs descriptors itself";
  HttpServer server(test_options(), test_router());
  Client open(server.port());
  ASSERT_TRUE(soon([&] { return server.connections() == 1; }));
  Client waiting(server.port(), 0, Client::Connect::kLater);
  {
    const NoDescriptors none;
    waiting.connect(server.port());
    waiting.send(kHello);
    open.send(kHello);
    EXPECT_EQ(open.receive().status, 200);
    ::usleep(50'000);
    EXPECT_EQ(server.connections(), 1U);
  }
  EXPECT_EQ(waiting.receive().status, 200);
}

}  // namespace
}  // namespace restkv::server
