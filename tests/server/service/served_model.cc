#include "server/service/served_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "support/tiny_model.h"

namespace restkv::server::testing {

using restkv::testing::TemporaryFolder;
using restkv::testing::TinyModel;

const std::string& random_model_path() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    std::string file = folder.file("random.gguf");
    TinyModel tiny;
    tiny.tokenizer = restkv::testing::test_model_path();
    tiny.vocabulary = 0;  // all of it
    tiny.tied = true;
    tiny.context = 2048;
    tiny.write(file);
    return file;
  }();
  return path;
}

ServedModel::ServedModel(ServiceOptions options, ServerOptions http)
    : errors_(std::make_shared<std::vector<std::string>>()) {
  options.model_path = random_model_path();
  options.error_log = [errors = errors_](const std::string& message) {
    errors->push_back(message);
  };
  door_ = std::make_unique<HttpServer>(std::move(http),
                                       make_routes(workers_, uploads_, slot_, options.error_log));
  slot_.set(std::make_shared<Service>(options, nullptr));
}

ServedModel::~ServedModel() {
  slot_.get()->scheduler.shutdown(std::chrono::milliseconds(0));
  door_->stop(std::chrono::milliseconds(1000));
}

Answer ServedModel::post(std::string_view path, const Json& body) const {
  return ask(port(), testing::post(path, body.dump(), "Content-Type: application/json\r\n"));
}

Json ServedModel::post_json(std::string_view path, const Json& body, int status) const {
  const Answer answer = post(path, body);
  EXPECT_EQ(answer.status, status) << path << "\n" << answer.body;
  return parse_json(answer.body);
}

Json ServedModel::get_json(std::string_view path, int status) const {
  const Answer answer = get(port(), path);
  EXPECT_EQ(answer.status, status) << path << "\n" << answer.body;
  return parse_json(answer.body);
}

std::vector<Json> ServedModel::stream(std::string_view path, const Json& body) const {
  const Answer answer = post(path, body);
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.headers.value("Content-Type"), "text/event-stream");
  std::vector<Json> events;
  std::string_view rest = answer.body;
  bool done = false;
  while (!rest.empty()) {
    constexpr std::string_view kBegin = "data: ";
    const size_t end = rest.find("\n\n");
    if (end == std::string_view::npos || !rest.starts_with(kBegin)) {
      ADD_FAILURE() << "no event: " << rest;
      break;
    }
    EXPECT_FALSE(done) << "an event behind [DONE]";
    const std::string_view data = rest.substr(kBegin.size(), end - kBegin.size());
    if (data == "[DONE]") {
      done = true;
    } else {
      events.push_back(parse_json(data));
    }
    rest.remove_prefix(end + 2);
  }
  EXPECT_TRUE(done);
  return events;
}

}  // namespace restkv::server::testing
