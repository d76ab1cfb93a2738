// `restkv batch`: files of requests, their answers, and texts that they share.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/batch_file.h"
#include "cli/cli_test.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using cli::BatchRequest;
using cli::SharedBeginning;
using ::testing::ElementsAre;

std::string chat_line(const std::string& id, const std::string& content) {
  return Json::object({{"custom_id", id},
                       {"method", "POST"},
                       {"url", "/v1/chat/completions"},
                       {"body", Json::object({{"model", "other"},
                                              {"temperature", 0},
                                              {"max_tokens", 4},
                                              {"messages",
                                               Json::array({Json::object(
                                                   {{"role", "user"}, {"content", content}})})}})}})
             .dump() +
         "\n";
}

BatchRequest chat_request(const std::string& content) {
  return {.id = content,
          .url = "/v1/chat/completions",
          .body = parse_json(chat_line("x", content)).at("body")};
}

TEST(SharedBeginnings, AreTextsThatSeveralChatsBeginWith) {
  const std::string report = "The report.\nIt has two lines.\n";
  const std::string book = "A book.\nIt is long.\n";
  std::vector<BatchRequest> requests{chat_request(book + "Who?"), chat_request(report + "Why?"),
                                     chat_request("Hello."), chat_request(report + "When?"),
                                     chat_request(book + "What?")};
  auto found = cli::shared_beginnings(requests, 15, 2);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].text, book);
  EXPECT_THAT(found[0].requests, ElementsAre(0, 4));
  EXPECT_EQ(found[1].text, report);
  EXPECT_THAT(found[1].requests, ElementsAre(1, 3));
  EXPECT_EQ(found[2].text, "");
  EXPECT_THAT(found[2].requests, ElementsAre(2));
  // Too short, or too few.
  EXPECT_EQ(cli::shared_beginnings(requests, 1000, 2).size(), 1U);
  EXPECT_EQ(cli::shared_beginnings(requests, 15, 3).size(), 1U);
  // A chat that says itself how it is compressed, calls tools, or begins otherwise.
  requests[1].body["restkv"] = Json::object({{"budget", 64}});
  requests[0].body["messages"].at(0)["role"] = "system";
  EXPECT_EQ(cli::shared_beginnings(requests, 15, 2).size(), 1U);
}

TEST(SharedBeginnings, EndWithALine) {
  const auto found = cli::shared_beginnings(
      {chat_request("One line here.\nWho wrote it?"), chat_request("One line here.\nWho sang it?")},
      5, 2);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].text, "One line here.\n");
  const Json body =
      cli::behind_document(chat_request("One line here.\n\nWho?").body, found[0].text, "doc-1");
  EXPECT_EQ(body.at("messages").at(0).at("content"), "Who?");
  EXPECT_EQ(body.at("document"), "doc-1");
}

class CliBatch : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    chat_model(8192).write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  void write(const std::string& text) const { std::ofstream(input_) << text; }
  [[nodiscard]] Outcome batch(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"batch", tiny_, input_, "-o", output_, "-t", "1"});
    return restkv_process(more);
  }
  [[nodiscard]] std::vector<Json> answers() const {
    std::vector<Json> list;
    std::ifstream file(output_);
    for (std::string line; std::getline(file, line);) list.push_back(parse_json(line));
    return list;
  }
  /// The text of the answer to a request.
  [[nodiscard]] std::string answer_to(const std::string& id) const {
    for (const Json& line : answers()) {
      if (line.at("custom_id") != Json(id)) continue;
      const Json& response = line.at("response");
      EXPECT_EQ(response.at("status_code"), 200) << response;
      return response.at("body").at("choices").at(0).at("message").at("content").text();
    }
    ADD_FAILURE() << "no answer to " << id;
    return {};
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
  std::string input_ = folder_.file("in.jsonl");
  std::string output_ = folder_.file("out.jsonl");
};

TEST_F(CliBatch, AnswersEveryRequestAndGoesOnWhereItStopped) {
  write(chat_line("a", "One.") + "\n" + chat_line("b", "Two."));
  const Outcome first = batch();
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("requests for other are answered by"));
  EXPECT_THAT(first.err, HasSubstr("2 requests in "));
  ASSERT_EQ(answers().size(), 2U);
  EXPECT_EQ(answers()[0].at("error"), nullptr);
  const std::string of_a = answer_to("a");
  EXPECT_FALSE(of_a.empty());

  // A torn line is answered again; what is there stays.
  std::ofstream(output_, std::ios::app) << R"({"id": "batch_req_3", "custom_)";
  write(chat_line("a", "One.") + chat_line("b", "Two.") + chat_line("c", "One."));
  const Outcome second = batch();
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("2 of 3 answers are there already"));
  EXPECT_EQ(answers().size(), 3U);
  EXPECT_EQ(answer_to("c"), of_a);
  EXPECT_EQ(batch().exit_code, 0);  // all are there
}

TEST_F(CliBatch, ReadsATextThatRequestsShareOnce) {
  std::string report;
  for (int i = 0; i < 300; ++i) report += "Item " + std::to_string(i * i % 97) + ".\n";
  write(chat_line("a", report + "\nWhich?") + chat_line("b", report + "\nWhy?") +
        chat_line("c", report + "\nWhen?") + chat_line("d", "Hello."));
  const Outcome outcome = batch({"--budget", "128"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("3 requests begin with the same"));
  EXPECT_THAT(outcome.err, HasSubstr("(method kvzip)"));
  EXPECT_EQ(answers().size(), 4U);
  const Json usage = [&] {
    for (const Json& line : answers()) {
      if (line.at("custom_id") == Json("b")) return line.at("response").at("body").at("usage");
    }
    return Json(nullptr);
  }();
  EXPECT_GT(usage.at("prompt_tokens_details").at("cached_tokens").get<double>(), 1000);

  std::ofstream(output_, std::ios::trunc).flush();
  const Outcome alone = batch({"--budget", "128", "--no-share"});
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_THAT(alone.err, Not(HasSubstr("begin with the same")));
}

TEST_F(CliBatch, ARequestThatIsRefusedHasItsReasonInItsLine) {
  std::string bad = chat_line("bad", "One.");
  bad.replace(bad.find("\"temperature\":0"), 15, "\"temperature\":-1");
  write(bad + chat_line("good", "One."));
  const Outcome outcome = batch();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("1 of 2 requests failed"));
  ASSERT_EQ(answers().size(), 2U);
  for (const Json& line : answers()) {
    const Json& response = line.at("response");
    if (line.at("custom_id") == Json("good")) continue;
    EXPECT_EQ(response.at("status_code"), 400);
    EXPECT_THAT(response.at("body").at("error").at("message").text(), HasSubstr("temperature"));
  }
}

TEST_F(CliBatch, RefusesFilesThatAreNone) {
  const auto refusal = [&](const std::string& text) {
    write(text);
    const Outcome outcome = batch();
    EXPECT_EQ(outcome.exit_code, 1);
    return outcome.err;
  };
  EXPECT_THAT(refusal("\n"), HasSubstr("holds no request"));
  EXPECT_THAT(refusal("hello\n"), HasSubstr(input_ + ":1: "));
  EXPECT_THAT(refusal(chat_line("a", "x") + chat_line("a", "y")),
              HasSubstr(":2: the custom_id 'a' stands twice"));
  EXPECT_THAT(refusal(R"({"custom_id": "a", "method": "GET", "url": "/v1/models", "body": {}})"),
              HasSubstr("'method' is 'GET'"));
  EXPECT_THAT(refusal(R"({"custom_id": "a", "url": "/v1/chat/completions"})"), HasSubstr("body"));
  EXPECT_THAT(
      refusal(R"({"custom_id": "a", "url": "/v1/chat/completions", "body": {"stream": true}})"),
      HasSubstr("asks for a stream"));
  EXPECT_THAT(refusal(R"({"custom_id": "a", "url": "/v1/nothing", "body": {}})"),
              HasSubstr("request 'a': there is no url /v1/nothing"));
  write(chat_line("a", "x"));
  const Outcome absent = restkv_process({"batch", "/absent.gguf", input_, "-o", output_});
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_THAT(absent.err, HasSubstr("/absent.gguf: cannot open the model"));
  EXPECT_FALSE(std::filesystem::exists(output_)) << "nothing is left behind";
  std::ofstream(output_) << "something else\n";
  EXPECT_THAT(batch().err, HasSubstr(output_ + ":1: is no answer of a batch"));
}

}  // namespace
}  // namespace restkv
