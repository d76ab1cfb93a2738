#include "server/http/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "server/http/responder.h"
#include "support/refusal.h"

namespace restkv::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Fixture {
  explicit Fixture(Exchange::Form form = {.stream_buffer = 10})
      : exchange(std::make_shared<Exchange>(std::move(form), [this] { ++wakes; })) {}

  std::string take() {
    std::string bytes;
    last = exchange->take(bytes);
    return bytes;
  }

  int wakes = 0;
  Exchange::Next last = Exchange::Next::kWait;
  std::shared_ptr<Exchange> exchange;
};

TEST(Exchange, FramesAWholeAnswer) {
  Fixture f;
  f.exchange->send(200, {{"Content-Type", "text/plain"}}, "hello");
  EXPECT_EQ(f.wakes, 1);
  const std::string bytes = f.take();
  EXPECT_THAT(bytes, StartsWith("HTTP/1.1 200 OK\r\nDate: "));
  EXPECT_THAT(bytes, HasSubstr("\r\nContent-Type: text/plain\r\n"));
  EXPECT_THAT(bytes, HasSubstr("\r\nContent-Length: 5\r\n"));
  EXPECT_THAT(bytes, Not(HasSubstr("Connection:")));
  EXPECT_THAT(bytes, EndsWith("\r\n\r\nhello"));
  f.take();
  EXPECT_EQ(f.last, Exchange::Next::kDone);
}

TEST(Exchange, FramesAStream) {
  Fixture f;
  f.exchange->begin_stream(200, {{"Content-Type", "text/event-stream"}});
  EXPECT_THAT(f.take(), HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
  EXPECT_EQ(f.take(), "");
  EXPECT_EQ(f.last, Exchange::Next::kWait);
  EXPECT_TRUE(f.exchange->write("a"));
  EXPECT_TRUE(f.exchange->write(""));
  EXPECT_TRUE(f.exchange->write("b"));
  EXPECT_EQ(f.exchange->waiting_bytes(), 2U);
  EXPECT_EQ(f.take(), "2\r\nab\r\n");
  f.exchange->end();
  EXPECT_EQ(f.take(), "0\r\n\r\n");
  EXPECT_EQ(f.take(), "");
  EXPECT_EQ(f.last, Exchange::Next::kDone);
}

TEST(Exchange, LeavesOutWhatTheClientDoesNotWant) {
  Fixture old({.http_1_0 = true, .stream_buffer = 10});
  old.exchange->begin_stream(200, {});
  EXPECT_THAT(old.take(), Not(HasSubstr("chunked")));
  EXPECT_FALSE(old.exchange->keep_alive());
  old.exchange->write("a");
  old.exchange->end();
  EXPECT_EQ(old.take(), "a");

  Fixture head({.without_body = true, .stream_buffer = 10});
  head.exchange->send(200, {}, "hello");
  EXPECT_THAT(head.take(), EndsWith("Content-Length: 5\r\n\r\n") /* or other fields behind */);

  Fixture nothing;
  nothing.exchange->send(204, {}, "hello");
  EXPECT_THAT(nothing.take(), Not(HasSubstr("Content-Length")));
}

TEST(Exchange, CutsAReaderThatDoesNotRead) {
  Fixture f;
  f.exchange->begin_stream(200, {});
  f.take();
  EXPECT_TRUE(f.exchange->write("more than ten bytes"));
  EXPECT_FALSE(f.exchange->cut());
  EXPECT_FALSE(f.exchange->write("b"));
  EXPECT_TRUE(f.exchange->cut());
  EXPECT_TRUE(f.exchange->gone());
}

TEST(Exchange, TellsOnceThatTheClientIsGone) {
  Fixture f;
  int calls = 0;
  f.exchange->on_gone([&] { ++calls; });
  f.exchange->leave();
  f.exchange->close();
  EXPECT_EQ(calls, 1);
  f.exchange->on_gone([&] { ++calls; });  // at once
  EXPECT_EQ(calls, 2);
  f.exchange->send(200, {}, "dropped");
  EXPECT_EQ(f.take(), "");

  Fixture answered;
  answered.exchange->on_gone([&] { ++calls; });
  answered.exchange->send(200, {}, "");
  answered.exchange->leave();
  EXPECT_EQ(calls, 2);
}

TEST(Exchange, RefusesSecondAnswersAndLineBreaks) {
  Fixture f;
  const auto inject = [&] { f.exchange->send(200, {{"X", "a\r\nSet-Cookie: b"}}, ""); };
  EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInvalidArgument, inject), HasSubstr("\"X\""));
  restkv::testing::refusal(ErrorCode::kInvalidArgument, [&] {
    f.exchange->begin_stream(200, {{"a b", "c"}});
  });
  EXPECT_THROW(f.exchange->send(200, {{"content-length", "3"}}, ""), std::logic_error);
  EXPECT_THROW(f.exchange->write("a"), std::logic_error);
  EXPECT_THROW(f.exchange->end(), std::logic_error);
  f.exchange->send(200, {}, "");
  EXPECT_THROW(f.exchange->send(200, {}, ""), std::logic_error);
  EXPECT_THROW(f.exchange->begin_stream(200, {}), std::logic_error);
}

TEST(Responder, AnswersWhatNobodyAnswers) {
  Fixture f;
  {
    const Responder first(f.exchange);
    const Responder copy = first;  // NOLINT(performance-unnecessary-copy-initialization)
  }
  const std::string bytes = f.take();
  EXPECT_THAT(bytes, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(bytes, HasSubstr("\"type\":\"server_error\""));

  Fixture stream;
  { Responder(stream.exchange).begin_stream(200, {}); }
  EXPECT_TRUE(stream.exchange->cut());
}

TEST(Responder, SendsErrorsInTheFormOfOpenAi) {
  Fixture f;
  Responder(f.exchange)
      .send_error(HttpError(400, "n must be \"1\"", {.param = "n", .retry_after = 3}));
  const std::string bytes = f.take();
  EXPECT_THAT(bytes, HasSubstr("\r\nRetry-After: 3\r\n"));
  EXPECT_THAT(bytes, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(bytes,
              EndsWith(R"({"error":{"message":"n must be \"1\"","type":"invalid_request_error",)"
                       R"("param":"n","code":null}})"));
}

}  // namespace
}  // namespace restkv::server
