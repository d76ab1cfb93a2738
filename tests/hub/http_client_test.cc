// Answers of a server on this machine.
#include "hub/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hub/fake_hub.h"

namespace restkv::hub {
namespace {

using ::restkv::testing::FakeHub;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Http : public ::testing::Test {
 protected:
  Http() { hub_.add("a/b", "model.gguf", "0123456789"); }

  HttpAnswer download(size_t first) {
    begins_.clear();
    bytes_.clear();
    HttpClient client("secret");
    return client.download(url_, first,
                           {.begin = [&](size_t number) { begins_.push_back(number); },
                            .write = [&](std::string_view bytes) { bytes_ += bytes; }});
  }

  FakeHub hub_;
  std::string url_ = hub_.endpoint() + "/a/b/resolve/main/model.gguf";
  std::vector<size_t> begins_;
  std::string bytes_;
};

TEST_F(Http, DownloadsFromAnyByteOn) {
  EXPECT_EQ(download(0).status, 200);
  EXPECT_EQ(bytes_, "0123456789");
  EXPECT_EQ(download(4).status, 206);
  EXPECT_EQ(bytes_, "456789");
  EXPECT_EQ(begins_, std::vector<size_t>{4});
  hub_.behave({.ranges = false});
  EXPECT_EQ(download(4).status, 200);
  EXPECT_EQ(bytes_, "0123456789");
  EXPECT_EQ(begins_, std::vector<size_t>{0});
}

TEST_F(Http, KeepsTheTokenFromOtherServers) {
  EXPECT_EQ(download(3).status, 206);
  const auto requests = hub_.take_requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].target, "/a/b/resolve/main/model.gguf");
  EXPECT_EQ(requests[0].authorization, "Bearer secret");
  EXPECT_EQ(requests[1].target, "/files/a/b/model.gguf");
  EXPECT_EQ(requests[1].authorization, "");
  EXPECT_EQ(requests[1].range, "bytes=3-");
}

TEST_F(Http, TellsWhyAnAnswerIsNotWhole) {
  hub_.behave({.breaks = 1, .break_at = 6});
  const HttpAnswer broken = download(0);
  EXPECT_THAT(broken.error, Not(IsEmpty()));
  EXPECT_EQ(bytes_, "012345");

  HttpClient client("");
  const std::string list = hub_.endpoint() + "/api/models/a/b/tree/main?recursive=true";
  EXPECT_THAT(client.get(list, 10).error, HasSubstr("more than 10 bytes"));
  EXPECT_EQ(client.get(list, 100000).status, 200);
  EXPECT_EQ(client.get(hub_.endpoint() + "/api/models/c/d/tree/main", 100).status, 404);
  const HttpAnswer none = client.get("http://127.0.0.1:1/", 100);
  EXPECT_EQ(none.status, 0);
  EXPECT_THAT(none.error, Not(IsEmpty()));
  EXPECT_THAT(client.get("file:///etc/passwd", 100000).error, Not(IsEmpty()));
}

TEST_F(Http, LetsErrorsOfTheSinkPass) {
  HttpClient client("");
  EXPECT_THROW(
      client.download(url_, 0,
                      {.begin = [](size_t) {},
                       .write = [](std::string_view) { throw std::runtime_error("full"); }}),
      std::runtime_error);
  // A list of what explains a failure goes to the body, not to the sink.
  const HttpAnswer absent =
      client.download(hub_.endpoint() + "/a/b/resolve/main/absent.gguf", 0,
                      {.begin = [](size_t) { FAIL(); }, .write = [](std::string_view) { FAIL(); }});
  EXPECT_EQ(absent.status, 404);
  EXPECT_EQ(absent.body, "Entry not found");
}

TEST(HttpClient, EscapesPathParts) {
  EXPECT_EQ(HttpClient("").escaped("a b?#%.gguf"), "a%20b%3F%23%25.gguf");
}

}  // namespace
}  // namespace restkv::hub
