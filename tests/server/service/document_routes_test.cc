#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "document/pdf_text.h"
#include "restkv/compression_options.h"
#include "server/service/served_model.h"
#include "support/pdf.h"

namespace restkv::server {
namespace {

using testing::Answer;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::ServedModel;
using testing::soon;

std::string story(size_t numbers) {
  std::string text = "Story:";
  for (size_t i = 0; i < numbers; ++i) text += " " + std::to_string(i * 7919 % 997);
  return text;
}

ServiceOptions small_budget() {
  ServiceOptions options;
  options.document_session.options.compression = parse_compression("keydiff:budget=64").options;
  options.scheduler.session.compression = parse_compression("snapkv:budget=128").options;
  return options;
}

TEST(DocumentRoutes, AreReadOnceAndAskedOften) {
  ServedModel served(small_budget());
  const Json document = served.post_json(
      "/v1/documents", Json::object({{"text", story(200)}, {"name", "story.txt"}}));
  const std::string id = document["id"].text();
  EXPECT_EQ(document["status"].text(), "ready");
  EXPECT_EQ(document["name"].text(), "story.txt");
  EXPECT_EQ(document["kept"].get<int>(), 64);
  EXPECT_EQ(document["restkv"]["method"].text(), "keydiff");

  const Json question = Json::object(
      {{"messages", Json::array({Json::object({{"role", "system"}, {"content", "Be brief."}}),
                                 Json::object({{"role", "user"}, {"content", "What now?"}})})},
       {"document", id},
       {"temperature", 0},
       {"max_tokens", 8}});
  const Json first = served.post_json("/v1/chat/completions", question);
  const Json again = served.post_json("/v1/chat/completions", question);
  EXPECT_EQ(first["choices"].dump(), again["choices"].dump());
  EXPECT_EQ(first["usage"]["prompt_tokens_details"]["cached_tokens"].get<size_t>(),
            document["tokens"].get<size_t>());

  const Json kept = served.get_json("/v1/documents/" + id + "/kept");
  size_t sum = 0;
  for (const Json& count : kept["kept"]) sum += count.get<size_t>();
  EXPECT_EQ(sum, 64 * kept["layers"].get<size_t>() * kept["heads"].get<size_t>());

  EXPECT_EQ(served.get_json("/v1/documents")["data"].size(), 1);
  const Answer removed = testing::ask(
      served.port(), "DELETE /v1/documents/" + id + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(removed.status, 200) << removed.body;
  (void)served.get_json("/v1/documents/" + id, 404);
  (void)served.post_json("/v1/chat/completions", question, 404);
}

TEST(DocumentRoutes, KeepAShare) {
  ServiceOptions options = small_budget();
  options.document_session.share = Budget{.share = 0.25};
  options.limits.max_budget = 100;
  const ServedModel served(options);
  EXPECT_EQ(served.get_json("/props")["restkv"]["documents"]["budget"].text(), "25%");
  const auto read = [&](const Json& more) {
    Json body = Json::object({{"text", story(100)}});
    if (more.size() > 0) body["restkv"] = more;
    return served.post_json("/v1/documents", body);
  };
  const Json quarter = read(Json::object());
  const auto tokens = quarter["tokens"].get<size_t>();
  EXPECT_EQ(quarter["restkv"]["budget"].get<size_t>(), std::min<size_t>(tokens / 4, 100));
  EXPECT_EQ(quarter["kept"].get<size_t>(), std::min<size_t>(tokens / 4, 100));
  const Json tenth = read(Json::object({{"budget", "10%"}}));
  EXPECT_EQ(tenth["kept"].get<size_t>(), tokens / 10);
  EXPECT_EQ(read(Json::object({{"budget", "90%"}}))["kept"].get<size_t>(), 100U);
  EXPECT_EQ(read(Json::object({{"budget", 70}}))["kept"].get<size_t>(), 70U);
  const Json refused = served.post_json(
      "/v1/documents", Json::object({{"text", "x"}, {"restkv", Json::object({{"budget", "0%"}})}}),
      400);
  EXPECT_EQ(refused["error"]["param"].text(), "restkv.budget");
  // Of a prompt as of a document.
  const Json answer = served.post_json(
      "/v1/completions",
      Json::object({{"prompt", story(100)},
                    {"max_tokens", 1},
                    {"restkv", Json::object({{"method", "keydiff"}, {"budget", "10%"}})}}));
  EXPECT_EQ(answer["restkv"]["kept"].get<size_t>(),
            answer["usage"]["prompt_tokens"].get<size_t>() / 10);
}

TEST(DocumentRoutes, QuestionsComeOnTop) {
  const ServedModel served(small_budget());
  const Json document = served.post_json("/v1/documents", Json::object({{"text", story(200)}}));
  const Json answer =
      served.post_json("/v1/completions", Json::object({{"document", document["id"]},
                                                        {"prompt", story(100)},
                                                        {"max_tokens", 8},
                                                        {"min_tokens", 8}}));
  const auto tokens = answer["usage"]["prompt_tokens"].get<size_t>();
  EXPECT_EQ(answer["restkv"]["kept"].get<size_t>(),
            64 + tokens - document["tokens"].get<size_t>() + 7);
}

TEST(DocumentRoutes, AFileOfAForm) {
  ServedModel served(small_budget());
  const auto form = [&](const std::string& content, const std::string& path) {
    const std::string body =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"report.md\"\r\n\r\n" +
        content +
        "\r\n--b\r\nContent-Disposition: form-data; name=\"restkv\"\r\n\r\n"
        "{\"method\": \"snapkv\", \"budget\": 48}\r\n--b--\r\n";
    return testing::ask(
        served.port(),
        testing::post(path, body, "Content-Type: multipart/form-data; boundary=b\r\n"));
  };
  const Answer accepted = form(story(100), "/v1/documents?wait=false");
  ASSERT_EQ(accepted.status, 202) << accepted.body;
  const Json document = parse_json(accepted.body);
  EXPECT_EQ(document["name"].text(), "report.md");
  EXPECT_EQ(document["restkv"]["budget"].get<int>(), 48);
  const std::string path = "/v1/documents/" + document["id"].text();
  EXPECT_TRUE(soon([&] { return served.get_json(path)["status"].text() == "ready"; }));
  EXPECT_EQ(served.get_json(path)["progress"].get<double>(), 1);

  EXPECT_EQ(form("\xff\xfe\x01", "/v1/documents").status, 415);
  EXPECT_EQ(form("x", "/v1/documents?wait=perhaps").status, 400);
  EXPECT_EQ(form("", "/v1/documents").status, 400);
}

/// Uploads a file.
Answer upload(const ServedModel& served, const std::string& name, const std::string& content) {
  const std::string body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" +
                           name + "\"\r\n\r\n" + content + "\r\n--b--\r\n";
  return testing::ask(
      served.port(),
      testing::post("/v1/documents", body, "Content-Type: multipart/form-data; boundary=b\r\n"));
}

TEST(DocumentRoutes, PagesAndPdfDocumentsAreReadAsText) {
  ServedModel served(small_budget());
  const auto text_of = [&](const Json& document) {
    std::string text;
    const Json kept = served.get_json("/v1/documents/" + document["id"].text() + "/kept");
    for (const Json& token : kept["tokens"]) text += token.text();
    return text;
  };
  const Answer page =
      upload(served, "page", "<!doctype html><nav>Home</nav><h1>Harbour</h1><p>1890");
  ASSERT_EQ(page.status, 200) << page.body;
  EXPECT_EQ(parse_json(page.body)["kind"].text(), "html");
  EXPECT_THAT(text_of(parse_json(page.body)), EndsWith("# Harbour\n\n1890\n"));

  const Json kinds = served.get_json("/props")["restkv"]["documents"]["kinds"];
  const Answer pdf = upload(served, "report.pdf", restkv::testing::make_pdf({"The harbour"}));
  if (document::can_read_pdf()) {
    ASSERT_EQ(pdf.status, 200) << pdf.body;
    EXPECT_EQ(parse_json(pdf.body)["kind"].text(), "pdf");
    EXPECT_THAT(text_of(parse_json(pdf.body)), HasSubstr("The harbour\n"));
    EXPECT_EQ(kinds.dump(), R"(["text","html","pdf"])");
  } else {
    EXPECT_EQ(pdf.status, 415);
    EXPECT_THAT(pdf.body, HasSubstr("poppler-utils"));
    EXPECT_EQ(kinds.dump(), R"(["text","html"])");
  }
  const Answer picture = upload(served, "photo.png", std::string("\x89PNG\r\n\x1A\n\0", 9));
  EXPECT_EQ(picture.status, 415);
  EXPECT_THAT(picture.body, HasSubstr("photo.png: is a PNG picture"));
  EXPECT_EQ(parse_json(picture.body)["error"]["param"].text(), "file");
}

TEST(DocumentRoutes, WhatCannotBe) {
  ServedModel served(small_budget());
  (void)served.post_json("/v1/documents", Json::object({{"name", "empty"}}), 400);
  (void)served.post_json("/v1/documents", Json::object({{"text", story(3000)}}), 400);
  (void)served.post_json("/v1/documents", Json::object({{"text", "x"}, {"id", "mine"}}), 400);
  (void)served.get_json("/v1/documents/doc-9/kept", 404);
  const Json document = served.post_json("/v1/documents", Json::object({{"text", story(50)}}));
  Json question = parse_json(R"({"messages": [{"role": "assistant", "content": "x"}]})");
  question["document"] = document["id"];
  const Json refused = served.post_json("/v1/chat/completions", question, 400);
  EXPECT_EQ(refused["error"]["param"].text(), "messages");
}

TEST(DocumentRoutes, WhoUploadsIsToldThatTheDocumentWasRemovedMeanwhile) {
  const ServedModel served(small_budget());
  const std::string body = Json::object({{"text", story(450)}}).dump();
  size_t told = 0;
  for (size_t round = 0; round < 20 && told == 0; ++round) {
    testing::Client client(served.port());
    client.send(testing::post("/v1/documents", body));
    Json list;
    ASSERT_TRUE(soon([&] { return !(list = served.get_json("/v1/documents")["data"]).empty(); }));
    (void)testing::ask(served.port(), "DELETE /v1/documents/" + list[0]["id"].text() +
                                          " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const Answer answer = client.receive();
    EXPECT_TRUE(answer.status == 200 || answer.status == 404) << answer.body;
    if (answer.status == 404) {
      ++told;
      EXPECT_THAT(answer.body, HasSubstr("was removed"));
    }
  }
  EXPECT_EQ(told, 1U) << "it was always too late";
}

TEST(DocumentRoutes, ToolsAreDescribedBehindTheDocument) {
  ServedModel served(small_budget());
  const Json document = served.post_json("/v1/documents", Json::object({{"text", story(20)}}));
  EXPECT_FALSE(document["saved"].get<bool>()) << "there is no cache_dir";
  Json question = parse_json(R"({"messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": "Which?"}], "tool_choice": "required", "max_tokens": 100,
      "tools": [{"type": "function", "function": {"name": "lookup",
      "parameters": {"type": "object", "properties": {"yes": {"type": "boolean"}},
      "required": ["yes"], "additionalProperties": false}}}]})");
  question["document"] = document["id"];
  const Json answer = served.post_json("/v1/chat/completions", question);
  const Json& choice = answer["choices"][0];
  EXPECT_EQ(choice["finish_reason"].text(), "tool_calls") << answer.dump();
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["name"].text(), "lookup");
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"].get<size_t>(),
            document["tokens"].get<size_t>());
  std::string text;
  const Json kept = served.get_json("/v1/sequences/" + answer["id"].text() + "/kept");
  for (const Json& token : kept["tokens"]) text += token.text();
  EXPECT_LT(text.find("Story:"), text.find("Be brief."));
  EXPECT_LT(text.find("Be brief."), text.find("You can call tools."));
  EXPECT_LT(text.find("You can call tools."), text.find("Which?"));
  EXPECT_EQ(text.find("You can call tools.", text.find("Which?")), std::string::npos);
}

}  // namespace
}  // namespace restkv::server
