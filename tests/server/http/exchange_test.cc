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
      : exchange(std::make_shared<Exchange>(std::move(form), [this] { ++wakes; })),
        responder(exchange) {}

  std::string take() {
    std::string bytes;
    last = exchange->take(bytes);
    return bytes;
  }

  int wakes = 0;
  Exchange::Next last = Exchange::Next::kWait;
  std::shared_ptr<Exchange> exchange;
  Responder responder;
};

TEST(Exchange, FramesAWholeAnswer) {
  Fixture f;
  f.responder.send(200, {{"Content-Type", "text/plain"}}, "hello");
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
  f.responder.begin_stream(200, {{"Content-Type", "text/event-stream"}});
  EXPECT_THAT(f.take(), HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
  EXPECT_EQ(f.take(), "");
  EXPECT_EQ(f.last, Exchange::Next::kWait);
  EXPECT_TRUE(f.responder.write("a"));
  EXPECT_TRUE(f.responder.write(""));
  EXPECT_TRUE(f.responder.write("b"));
  EXPECT_EQ(f.responder.waiting_bytes(), 2U);
  EXPECT_EQ(f.take(), "2\r\nab\r\n");
  f.responder.end();
  EXPECT_EQ(f.take(), "0\r\n\r\n");
  EXPECT_EQ(f.take(), "");
  EXPECT_EQ(f.last, Exchange::Next::kDone);
}

TEST(Exchange, LeavesOutWhatTheClientDoesNotWant) {
  Fixture old({.http_1_0 = true, .stream_buffer = 10});
  old.responder.begin_stream(200, {});
  EXPECT_THAT(old.take(), Not(HasSubstr("chunked")));
  EXPECT_FALSE(old.exchange->keep_alive());
  old.responder.write("a");
  old.responder.end();
  EXPECT_EQ(old.take(), "a");

  Fixture head({.without_body = true, .stream_buffer = 10});
  head.responder.send(200, {}, "hello");
  EXPECT_THAT(head.take(), EndsWith("Content-Length: 5\r\n\r\n") /* or other fields behind */);

  Fixture nothing;
  nothing.responder.send(204, {}, "hello");
  EXPECT_THAT(nothing.take(), Not(HasSubstr("Content-Length")));
}

TEST(Exchange, CutsAReaderThatDoesNotRead) {
  Fixture f;
  f.responder.begin_stream(200, {});
  f.take();
  EXPECT_TRUE(f.responder.write("more than ten bytes"));
  EXPECT_FALSE(f.exchange->cut());
  EXPECT_FALSE(f.responder.write("b"));
  EXPECT_TRUE(f.exchange->cut());
  EXPECT_TRUE(f.responder.gone());
}

TEST(Exchange, TellsOnceThatTheClientIsGone) {
  Fixture f;
  int calls = 0;
  f.responder.on_gone([&] { ++calls; });
  f.exchange->leave();
  f.exchange->close();
  EXPECT_EQ(calls, 1);
  f.responder.on_gone([&] { ++calls; });  // at once
  EXPECT_EQ(calls, 2);
  f.responder.send(200, {}, "dropped");
  EXPECT_EQ(f.take(), "");

  Fixture answered;
  answered.responder.on_gone([&] { ++calls; });
  answered.responder.send(200, {}, "");
  answered.exchange->leave();
  EXPECT_EQ(calls, 2);
}

TEST(Exchange, RefusesSecondAnswersAndLineBreaks) {
  Fixture f;
  const auto inject = [&] { f.responder.send(200, {{"X", "a\r\nSet-Cookie: b"}}, ""); };
  EXPECT_THAT(restkv::testing::refusal(ErrorCode::kInvalidArgument, inject), HasSubstr("\"X\""));
  restkv::testing::refusal(ErrorCode::kInvalidArgument, [&] {
    f.responder.begin_stream(200, {{"a b", "c"}});
  });
  EXPECT_THROW(f.responder.send(200, {{"content-length", "3"}}, ""), std::logic_error);
  EXPECT_THROW(f.responder.write("a"), std::logic_error);
  EXPECT_THROW(f.responder.end(), std::logic_error);
  f.responder.send(200, {}, "");
  EXPECT_THROW(f.responder.send(200, {}, ""), std::logic_error);
  EXPECT_THROW(f.responder.begin_stream(200, {}), std::logic_error);
}

TEST(Responder, AnswersWhatNobodyAnswers) {
  Fixture f;
  Fixture other;
  Responder copy = f.responder;
  f.responder = other.responder;
  EXPECT_EQ(f.take(), "") << "a copy may still answer";
  copy = other.responder;
  const std::string bytes = f.take();
  EXPECT_THAT(bytes, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(bytes, HasSubstr("\"type\":\"server_error\""));

  Fixture stream;
  stream.responder.begin_stream(200, {});
  EXPECT_FALSE(stream.exchange->cut());
  stream.responder.give_up();
  EXPECT_TRUE(stream.exchange->cut());
}

TEST(Responder, SendsErrorsInTheFormOfOpenAi) {
  Fixture f;
  f.responder.send_error(HttpError(400, "n must be \"1\"", {.param = "n", .retry_after = 3}));
  const std::string bytes = f.take();
  EXPECT_THAT(bytes, HasSubstr("\r\nRetry-After: 3\r\n"));
  EXPECT_THAT(bytes, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(bytes,
              EndsWith(R"({"error":{"message":"n must be \"1\"","type":"invalid_request_error",)"
                       R"("param":"n","code":null}})"));
}

}  // namespace
}  // namespace restkv::server
