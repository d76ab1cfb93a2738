// `restkv ask`: answers about documents that are read once.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/cli_test.h"
#include "cli/question_file.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::restkv::testing::refusal;
using ::testing::ElementsAre;

class CliAsk : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    chat_model().write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  CliAsk() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "Boat " + std::to_string(i) + " left in the morning.\n";
    document_ = write("boats.txt", text);
    questions_ = write("questions.jsonl",
                       "{\"id\": \"first\", \"question\": \"Which boat was first?\"}\n"
                       "\n"
                       "{\"question\": \"Which was last?\", \"max_tokens\": 3}\n"
                       "{\"id\": 7, \"prompt\": \"How many?\"}\n");
  }

  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const {
    const std::string path = folder_.file(name);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  [[nodiscard]] Outcome ask(const std::vector<std::string>& more) const {
    std::vector<std::string> list{"ask", "-m", tiny_, "-t", "1", "-n", "8", "--budget", "100"};
    list.insert(list.end(), more.begin(), more.end());
    return restkv_process(list);
  }
  static std::vector<Json> lines(const std::string& path) {
    std::ifstream file(path);
    std::vector<Json> list;
    for (std::string line; std::getline(file, line);) list.push_back(parse_json(line));
    return list;
  }
  /// "id: answer" of each line, without times.
  static std::vector<std::string> answers(const std::string& path) {
    std::vector<std::string> list;
    for (const Json& line : lines(path)) {
      list.push_back(line.at("id").text() + ": " + line.at("answer").text());
    }
    std::ranges::sort(list);
    return list;
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
  std::string document_, questions_;
};

TEST_F(CliAsk, AnswersDoNotDependOnWhatIsAskedWithThem) {
  const std::string all = folder_.file("all.jsonl");
  const Outcome outcome = ask({document_, "--questions", questions_, "-o", all});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("100 kept per KV head"));
  ASSERT_EQ(lines(all).size(), 3U);
  for (const Json& line : lines(all)) {
    EXPECT_LE(line.at("tokens").get<size_t>(), line.at("id").text() == "3" ? 3U : 8U);
  }
  const std::string alone = folder_.file("alone.jsonl");
  EXPECT_EQ(ask({document_, "--questions", questions_, "-o", alone, "--parallel", "1"}).exit_code,
            0);
  EXPECT_EQ(answers(alone), answers(all));
}

TEST_F(CliAsk, LayersChooseWhatTheyKeepOfADocument) {
  const auto kept = [&](const std::string& tolerance) {
    const Outcome outcome =
        restkv_process({"ask", "-m", tiny_, "-t", "1", "-n", "8", document_, "-q", "One?",
                        "--method", "snapkv", "--budget", "auto", "--tolerance", tolerance});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const size_t end = outcome.err.find(" kept per KV head");
    return end == std::string::npos
               ? 0
               : std::stoi(outcome.err.substr(outcome.err.rfind(' ', end - 1) + 1));
  };
  const int few = kept("0.9");
  EXPECT_GE(few, 33);
  EXPECT_GT(kept("0.01"), few);
}

TEST_F(CliAsk, PrintsAnswersInTheOrderOfTheQuestions) {
  const Outcome outcome = ask({document_, "-q", "One?", "-q", "Two?", "-q", "Three?"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const size_t one = outcome.out.find("Q: One?\nA: ");
  const size_t two = outcome.out.find("Q: Two?\nA: ");
  const size_t three = outcome.out.find("Q: Three?\nA: ");
  EXPECT_EQ(one, 0U);
  EXPECT_LT(one, two);
  EXPECT_LT(two, three);
  EXPECT_NE(three, std::string::npos);
}

TEST_F(CliAsk, GoesOnWhereItWasStopped) {
  const std::string whole = folder_.file("whole.jsonl");
  EXPECT_EQ(ask({document_, "--questions", questions_, "-o", whole}).exit_code, 0);
  std::ifstream file(whole);
  std::string first;
  std::getline(file, first);
  std::string second;
  std::getline(file, second);
  const std::string torn = write("torn.jsonl", first + "\n" + second.substr(0, second.size() / 2));
  const Outcome outcome = ask({document_, "--questions", questions_, "-o", torn});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 of 3 answers are there already"));
  EXPECT_EQ(answers(torn), answers(whole));
  // Nothing is left to do.
  const Outcome again = ask({document_, "--questions", questions_, "-o", torn});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.err, HasSubstr("3 of 3 answers"));
}

TEST_F(CliAsk, RefusesAnswersOfOtherSettings) {
  const std::string output = folder_.file("a.jsonl");
  EXPECT_EQ(ask({document_, "-q", "One?", "-o", output}).exit_code, 0);
  const std::string other = write("other.txt", "Something else altogether.");
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{other},
        {document_, "--method", "snapkv"},
        {document_, "--temp", "0.5"},
        {document_, "--system", "Be brief."},
        {document_, "--positions", "compact"},
        {document_, "--rope-scaling", "linear", "--rope-scale", "2"},
        {document_, "--repeat-penalty", "1.5"}}) {
    std::vector<std::string> list = more;
    list.insert(list.end(), {"-q", "One?", "-o", output});
    const Outcome outcome = ask(list);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("another document, model or option"));
  }
  const std::string mine = write("mine.txt", "my own notes\n");
  const Outcome outcome = ask({document_, "-q", "One?", "-o", mine});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("mine.txt:1: is no answer"));
  std::ifstream kept(mine);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(kept), {}), "my own notes\n");
}

TEST_F(CliAsk, RefusesWhatItCannotAnswer) {
  const std::string empty = write("empty.txt", "");
  const std::string blank = write("blank.txt", "\n \n");
  for (const auto& [more, exit_code, message] :
       std::vector<std::tuple<std::vector<std::string>, int, std::string>>{
           {{document_}, 2, "no question"},
           {{"-q", "One?"}, 2, "document"},
           {{empty, "-q", "One?"}, 2, "is empty"},
           {{document_, "--questions", blank}, 1, "holds no question"},
           {{document_, "-q", "One?", "-o", "-"}, 2, "--output"},
           {{document_, "-q", "One?", "--budget", "0%"}, 2, "\"0%\""},
           {{document_, "-q", "One?", "-n", "100000"}, 2, "context"},
           {{folder_.file("none.txt"), "-q", "One?"}, 1, "none.txt"}}) {
    std::vector<std::string> list{"ask", "-m", tiny_, "-t", "1"};
    list.insert(list.end(), more.begin(), more.end());
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CliAsk, ReadsFilesAsRunDoes) {
  const std::string page =
      write("page.html", "<html><body><h1>Boats</h1><p>Two.</p></body></html>");
  const Outcome outcome = ask({page, "-q", "How many?"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("page.html is an HTML page"));
  const std::string binary = write("photo.txt", std::string("\x89PNG\r\n\x1a\n\0\xFF", 10));
  const Outcome refused = ask({binary, "-q", "How many?"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("photo.txt"));
}

TEST_F(CliAsk, TakesAShareOfTheDocument) {
  const Outcome outcome = restkv_process(
      {"ask", "-m", tiny_, "-t", "1", "-n", "2", document_, "-q", "One?", "--budget", "50%"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  size_t tokens = 0;
  size_t kept = 0;
  const size_t at = outcome.err.find("document: ");
  ASSERT_NE(at, std::string::npos) << outcome.err;
  ASSERT_GE(std::sscanf(outcome.err.c_str() + at, "document: %zu tokens, read in %*f s, %zu kept",
                        &tokens, &kept),
            2);
  EXPECT_EQ(kept, tokens / 2);
}

TEST(QuestionFileTest, NamesTheLineOfABadRecord) {
  const TemporaryFolder folder;
  const std::string path = folder.file("q.jsonl");
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"{\"question\": \"a\"}\n[1]", ":2: is no JSON object"},
           {"{\"question\": 3}", ":1: needs a field 'question'"},
           {"{\"question\": \" \"}", ":1: the question is empty"},
           {"{\"question\": \"a\", \"id\": [1]}", ":1: field 'id'"},
           {"{\"question\": \"a\", \"max_tokens\": 0}", ":1: field 'max_tokens' must be 1 to"},
           {"{\"question\": \"a\", \"max_tokens\": -1}", "not -1"},
           {"{\"question\": \"a\", \"id\": 2}\n{\"question\": \"b\"}", "'2' stands twice"},
           {"{\"question\": \"a\"\n", ":1: "}}) {
    std::ofstream(path) << text;
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { cli::read_questions(path); }), HasSubstr(message));
  }
}

TEST(QuestionFileTest, ReadsLinesOfTextToo) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("q.txt")) << "What?\r\n\n  Why {so}?\n";
  std::vector<std::string> read;
  for (const cli::Question& question : cli::read_questions(folder.file("q.txt"))) {
    read.push_back(question.id + " " + question.text);
  }
  EXPECT_THAT(read, ElementsAre("1 What?", "3 Why {so}?"));
}

}  // namespace
}  // namespace restkv
