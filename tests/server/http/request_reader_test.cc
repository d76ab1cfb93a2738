#include "server/http/request_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

constexpr ReadLimits kLimits{.header = 2048, .body = 100};

struct Outcome {
  int status = 0;  // 0: fine
  bool done = false;
  std::string body;
};

/// Feeds `piece` bytes at a time.
Outcome read(std::string_view bytes, size_t piece) {
  RequestReader reader(kLimits);
  std::string waiting;
  try {
    while (!bytes.empty() && !reader.done()) {
      waiting += bytes.substr(0, piece);
      bytes.remove_prefix(std::min(piece, bytes.size()));
      for (size_t used = 1; used > 0 && !reader.done();) {
        used = reader.feed(waiting);
        waiting.erase(0, used);
      }
    }
  } catch (const HttpError& error) {
    return {.status = error.status(), .body = {}};
  }
  return {.done = reader.done(), .body = reader.body()};
}

const std::string kStart = "POST /a HTTP/1.1\r\nHost: x\r\n";

TEST(RequestReader, ReadsBodiesOfBothKinds) {
  for (const size_t piece : {1U, 2U, 3U, 7U, 10000U}) {
    EXPECT_EQ(read(kStart + "Content-Length: 5\r\n\r\nhello", piece).body, "hello");
    EXPECT_TRUE(read(kStart + "\r\n", piece).done);
    EXPECT_TRUE(read("\r\n\r\n" + kStart + "Content-Length: 0\r\n\r\n", piece).done);
    const Outcome chunks = read(kStart +
                                    "Transfer-Encoding: Chunked\r\n\r\n"
                                    "3\r\nhel\r\n2;a=\"b\"\r\nlo\r\n0\r\nHost: other\r\n\r\n",
                                piece);
    EXPECT_TRUE(chunks.done);
    EXPECT_EQ(chunks.body, "hello");
  }
}

TEST(RequestReader, RefusesWhatIsBrokenHoweverItComes) {
  struct Case {
    std::string bytes;
    int status;
  };
  const std::string filler(3000, 'x');
  const std::vector<Case> cases{
      {"\x16\x03\x01\x02", 400},  // TLS
      {"GET / HTTP/1.1\nHost: x\n\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400},
      {std::string("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 28), 400},
      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 505},
      {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {" / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
      {"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n: x\r\n\r\n", 400},
      {kStart + "Content-Length: -1\r\n\r\n", 400},
      {kStart + "Content-Length: +1\r\n\r\na", 400},
      {kStart + "Content-Length: 1 1\r\n\r\na", 400},
      {kStart + "Content-Length: 0x1\r\n\r\na", 400},
      {kStart + "Content-Length: \r\n\r\na", 400},
      {kStart + "Content-Length: 1, 1\r\n\r\na", 400},
      {kStart + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
      {kStart + "Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400},
      {kStart + "Content-Length: 18446744073709551616\r\n\r\n", 400},
      {kStart + "Content-Length: 18446744073709551615\r\n\r\n", 413},
      {kStart + "Content-Length: 101\r\n\r\n", 413},
      {kStart + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
      {kStart + "Content-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
      {kStart + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {kStart + "Transfer-Encoding: chunked, gzip\r\n\r\n", 501},
      {kStart + "Transfer-Encoding: xchunked\r\n\r\n", 501},
      {kStart + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\n65\r\n", 413},
      {kStart + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\n1;" + filler, 400},
      {kStart + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + filler, 400},
      {kStart + "Expect: 200-ok\r\n\r\n", 417},
      {"GET /" + filler, 431},
      {kStart + "X: " + filler, 431},
      {std::string(3000, 'G'), 431},
  };
  for (const Case& one : cases) {
    for (const size_t piece : {1U, 5U, 100000U}) {
      EXPECT_EQ(read(one.bytes, piece).status, one.status)
          << one.bytes.substr(0, 120) << "\nin pieces of " << piece;
    }
  }
}

TEST(RequestReader, CountsTheHeaderAsAWhole) {
  // Line by line, each far below the limit.
  RequestReader reader(kLimits);
  std::string bytes = kStart;
  int status = 0;
  for (int i = 0; i < 100 && status == 0; ++i) {
    try {
      bytes.erase(0, reader.feed(bytes));
      bytes += "X-Field: some fifty bytes of a value, more or less..\r\n";
    } catch (const HttpError& error) {
      status = error.status();
    }
  }
  EXPECT_EQ(status, 431);
}

TEST(RequestReader, StopsAtTheHeaderAndAtTheEnd) {
  RequestReader reader(kLimits);
  const std::string head = kStart + "Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
  const std::string bytes = head + "abGET / HTTP/1.1\r\n";
  EXPECT_EQ(reader.feed(bytes), head.size());
  EXPECT_TRUE(reader.has_head());
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.head().method, "POST");
  EXPECT_EQ(reader.head().headers.value("hOST"), "x");
  EXPECT_TRUE(reader.head().expects_continue);
  EXPECT_EQ(reader.feed(bytes.substr(head.size())), 2U);
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(reader.body(), "ab");
  EXPECT_EQ(reader.feed("more"), 0U);
}

TEST(RequestReader, KnowsWhoStays) {
  const auto stays = [](const std::string& version, const std::string& field) {
    RequestReader reader(kLimits);
    reader.feed("GET / HTTP/" + version + "\r\n" + field + "\r\n");
    return reader.head().keep_alive;
  };
  EXPECT_TRUE(stays("1.1", ""));
  EXPECT_FALSE(stays("1.1", "Connection: close\r\n"));
  EXPECT_FALSE(stays("1.0", ""));
  EXPECT_TRUE(stays("1.0", "Connection: keep-alive\r\n"));
}

}  // namespace
}  // namespace restkv::server
