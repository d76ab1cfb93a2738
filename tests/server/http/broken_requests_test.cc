// What no good client sends: the server answers with a proper error and goes on with the others.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "server/http/client.h"

namespace restkv::server {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

class BrokenRequests : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(get(server_.port(), "/hello").body, "hello"); }

  static ServerOptions options() {
    ServerOptions options = test_options();
    options.body_limit = 1 << 20;
    return options;
  }
  HttpServer server_{options(), test_router()};
};

TEST_F(BrokenRequests, GetJsonAndAClosedConnection) {
  const std::string post_line = "POST /echo HTTP/1.1\r\nHost: localhost\r\n";
  struct Case {
    std::string bytes;
    int status;
  };
  const std::vector<Case> cases{
      {"nonsense\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: localhost\n\n", 400},
      {std::string("GET /\0 HTTP/1.1\r\n\r\n", 20), 400},
      {"GET /hello HTTP/1.1\r\n\r\n", 400},
      {"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /hello%0d%0aX:%20y HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: evil.org\r\n\r\n", 403},
      {"GET /hello HTTP/3.0\r\nHost: localhost\r\n\r\n", 505},
      {"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"TRACE /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
      {post_line + "Content-Length: -5\r\n\r\nhello", 400},
      {post_line + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {post_line + "Content-Length: 1048577\r\n\r\n", 413},
      {post_line + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {post_line + "Transfer-Encoding: chunked\r\n\r\n100001\r\n", 413},
      {post_line + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {post_line + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415},
      {post_line + "X: " + std::string(20'000, 'x') + "\r\n\r\n", 431},
      {"GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431},
  };
  for (const Case& one : cases) {
    Client client(server_.port());
    client.send(one.bytes);
    const Answer answer = client.receive();
    EXPECT_EQ(answer.status, one.status) << one.bytes.substr(0, 100);
    EXPECT_TRUE(answer.complete);
    EXPECT_EQ(answer.headers.value("Connection"), "close");
    EXPECT_EQ(answer.headers.value("Content-Type"), "application/json");
    EXPECT_FALSE(parse_json(answer.body)["error"]["message"].text().empty());
    EXPECT_TRUE(client.closed(5));
  }
}

TEST_F(BrokenRequests, SmuggleNothingBehindThem) {
  Client client(server_.port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.receive().status, 400);
  EXPECT_EQ(client.receive().status, 0);
}

TEST_F(BrokenRequests, AreAnsweredThoughTheBodyIsNotReadToItsEnd) {
  // Without care the system would answer the rest of the body with RST, and the client would see
  // neither the status nor the reason.
  for (int i = 0; i < 20; ++i) {
    Client client(server_.port());
    client.send(post("/echo", std::string(3 << 20, 'x')));
    EXPECT_EQ(client.receive().status, 413);
  }
}

TEST_F(BrokenRequests, MayEndAnywhere) {
  const std::string whole = post("/echo", "hello");
  for (size_t length = 0; length < whole.size(); length += 7) {
    Client half(server_.port());
    half.send(whole.substr(0, length));
    half.half_close();
    EXPECT_EQ(half.receive().status, length == 0 ? 0 : 400);
    EXPECT_TRUE(half.closed(5));
    Client gone(server_.port());
    gone.send(whole.substr(0, length));
    gone.reset();
  }
  EXPECT_TRUE(soon([&] { return server_.connections() == 0; }, 5));
}

TEST_F(BrokenRequests, WholeOnesOfAHalfClosedConnectionAreAnswered) {
  Client client(server_.port());
  client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n" + post("/echo", "a"));
  client.half_close();
  EXPECT_EQ(client.receive().body, "hello");
  EXPECT_EQ(client.receive().body, "a");
  EXPECT_TRUE(client.closed(5));
}

TEST_F(BrokenRequests, BytesOneByOneAreFine) {
  Client client(server_.port());
  for (const char c : post("/echo", "hello")) client.send({&c, 1});
  EXPECT_EQ(client.receive().body, "hello");
}

}  // namespace
}  // namespace restkv::server
