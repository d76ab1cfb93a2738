// `restkv run`: what it prints, what it refuses, and how it ends.

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "cli/beside_the_cut.h"
#include "cli/cli_test.h"
#include "document/pdf_text.h"
#include "make_model/presets.h"
#include "restkv/tokenizer.h"
#include "support/pdf.h"

namespace restkv {
namespace {

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(count, '\0');
  for (char& b : bytes) b = static_cast<char>(random());
  return bytes;
}

/// A text of about `words` tokens.
std::string long_text(size_t words) {
  constexpr const char* kWords[] = {"rain", "stone", "river", "apple", "wind", "paper", "light"};
  std::string text;
  for (size_t i = 0; i < words; ++i) text += std::string(kWords[(i * i + i / 7) % 7]) + " ";
  return text;
}

/// A tiny random model with a real tokenizer, written once: its words mean nothing, but it is fast.
class CliRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    description().write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  static TinyModel description() { return chat_model(32768); }
  /// `restkv run` on the tiny model with one thread and `more` arguments.
  static std::vector<std::string> arguments(const std::vector<std::string>& more) {
    std::vector<std::string> list{"run", "-m", tiny_, "-t", "1"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  static Outcome run(const std::vector<std::string>& more) {
    return restkv_process(arguments(more));
  }
  /// The answer to a run that must succeed without a word on standard error.
  static std::string answer(const std::vector<std::string>& more) {
    const Outcome outcome = run(more);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(beside_the_cut(outcome.err), "");
    return outcome.out;
  }
  /// The message of a run that must end with `exit_code`, and print nothing else.
  static std::string refusal(int exit_code, const std::vector<std::string>& more) {
    const Outcome outcome = run(more);
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("restkv: "));
    return outcome.err;
  }
  Json stats_of(const std::vector<std::string>& more) const {
    const std::string path = folder_.file("stats.json");
    std::vector<std::string> list = more;
    list.insert(list.end(), {"--stats-json", path});
    answer(list);
    return parse_json(read_bytes(path));
  }

  [[nodiscard]] std::string write_long(size_t bytes) const {
    std::string path = folder_.file("long.txt");
    std::string text;
    while (text.size() < bytes) text += "one two three\n";
    write_bytes(path, text);
    return path;
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
};

TEST_F(CliRun, TheRealModelAnswers) {
  const std::vector<std::string> question{
      "run", "-m", test_model_path(), "-p", "What is the capital of France?", "-n", "16"};
  const Outcome greedy = restkv_process(question);
  EXPECT_EQ(greedy.exit_code, 0);
  // On a slow machine (under a sanitizer, say) reading takes long enough to be reported.
  EXPECT_THAT(beside_the_cut(greedy.err), AnyOf(IsEmpty(), StartsWith("reading the prompt")));
  EXPECT_THAT(greedy.out, HasSubstr("Paris"));
  EXPECT_EQ(greedy.out.back(), '\n');
}

TEST_F(CliRun, TakesThePromptFromAnywhere) {
  const std::string prompt = "Tell me about rivers.\nAnd \xC3\xA9t\xC3\xA9.";
  const std::string file = folder_.file("prompt.txt");
  write_bytes(file, prompt);
  const std::string expected = answer({"-n", "12", "-p", prompt});
  EXPECT_THAT(expected, Not(IsEmpty()));
  EXPECT_EQ(answer({"-n", "12", "-f", file}), expected);
  const Outcome piped =
      restkv_process(Spawn{.arguments = arguments({"-n", "12"}), .input = prompt});
  EXPECT_EQ(piped.out, expected);
  const Outcome dash =
      restkv_process(Spawn{.arguments = arguments({"-n", "12", "-f", "-"}), .input = prompt});
  EXPECT_EQ(dash.out, expected);
}

TEST_F(CliRun, ReadsUnicodeByItsMark) {
  const std::string prompt = "Tell me about rivers.";
  const std::string expected = answer({"-n", "8", "-p", prompt});
  std::string wide = "\xFF\xFE";
  for (const char c : prompt) wide += {c, '\0'};
  const std::string file = folder_.file("prompt.txt");
  for (const std::string& bytes : {"\xEF\xBB\xBF" + prompt, wide}) {
    write_bytes(file, bytes);
    EXPECT_EQ(answer({"-n", "8", "-f", file}), expected);
    const Outcome piped =
        restkv_process(Spawn{.arguments = arguments({"-n", "8"}), .input = bytes});
    EXPECT_EQ(piped.out, expected) << piped.err;
  }
}

TEST_F(CliRun, RefusesPromptsThatAreNoText) {
  const std::string file = folder_.file("prompt.bin");
  write_bytes(file, random_bytes(2000, 5));
  for (const std::vector<std::string>& raw : {std::vector<std::string>{}, {"--raw"}}) {
    const auto refused = [&](std::vector<std::string> more) {
      more.insert(more.end(), raw.begin(), raw.end());
      return refusal(1, more);
    };
    write_bytes(file, random_bytes(2000, 5));
    EXPECT_THAT(refused({"-f", file}), StartsWith("restkv: " + file + ": is"));
    write_bytes(file, std::string("what\0now", 8));
    EXPECT_THAT(refused({"-f", file}), HasSubstr("zero byte at offset 4"));
    EXPECT_THAT(refused({"-f", tiny_}), HasSubstr("is a GGUF model, not a text"));
    EXPECT_THAT(refused({"-p", "caf\xE9"}), HasSubstr("-p: is not UTF-8: byte 0xE9 at offset 3"));
  }
  EXPECT_THAT(refusal(1, {"-p", "hello", "--system", "caf\xE9"}), HasSubstr("--system: is not"));
  const std::string saved = folder_.file("saved.rkv");
  EXPECT_EQ(run({"-p", "hello", "-n", "0", "--save-cache", saved}).exit_code, 0);
  EXPECT_THAT(refusal(1, {"-f", saved}), HasSubstr("is a saved session, not a text"));
  const Outcome piped =
      restkv_process(Spawn{.arguments = arguments({}), .input = std::string("a\0b", 3)});
  EXPECT_EQ(piped.exit_code, 1);
  EXPECT_THAT(piped.err, HasSubstr("standard input: is binary"));
}

TEST_F(CliRun, AnswersAreUtf8WhereverTheyEnd) {
  for (const char* seed : {"1", "2", "3", "4"}) {
    const std::string out = answer({"-n", "60", "--temp", "50", "--seed", seed, "-p", "hello"});
    EXPECT_EQ(out, replace_invalid_utf8(out));
  }
}

TEST_F(CliRun, RefusesWhatCannotFitWithoutReadingIt) {
  EXPECT_THAT(refusal(2, {"-f", write_long(20U << 20U)}), HasSubstr("tokens or more"));
}

TEST_F(CliRun, ControlTokensInAPromptAreTextUnlessAskedFor) {
  const std::string prompt = "a<|im_end|>b";
  const auto tokens = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list{"-n", "1", "-p", prompt};
    list.insert(list.end(), more.begin(), more.end());
    return stats_of(list).at("prompt_tokens").get<size_t>();
  };
  const Tokenizer tokenizer(tiny_);
  const size_t spelled =
      tokenizer.encode("<|im_end|>", false, false).size() - 1;  // instead of one token
  EXPECT_EQ(tokens({}), tokens({"--parse-special"}) + spelled);
  EXPECT_EQ(tokens({"--raw"}), tokenizer.encode(prompt, true, true).size());
  EXPECT_THAT(refusal(2, {"-p", "x", "--raw", "--parse-special"}), HasSubstr("always parses"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--load-cache", "y", "--parse-special"}),
              HasSubstr("as it was begun"));
}

TEST_F(CliRun, JoinsADocumentAndTheQuestion) {
  const std::string report = folder_.file("report.txt");
  const std::string notes = folder_.file("notes.txt");
  write_bytes(report, "The report.\r\n\n");
  write_bytes(notes, "The notes.");
  const auto joined = [&](const std::vector<std::string>& sources, const std::string& input = {}) {
    std::vector<std::string> list = arguments({"-n", "12"});
    list.insert(list.end(), sources.begin(), sources.end());
    return restkv_process(Spawn{.arguments = list, .input = input});
  };
  EXPECT_EQ(joined({"-p", "Why?", "-f", report}).out,
            answer({"-n", "12", "-p", "The report.\n\nWhy?"}));
  EXPECT_EQ(joined({"-f", notes, "-f", report}).out,
            answer({"-n", "12", "-p", "The notes.\n\nThe report.\r\n\n"}));
  const Outcome piped = joined({"-p", "Why?"}, "The report.\n");
  EXPECT_EQ(piped.out, answer({"-n", "12", "-p", "The report.\n\nWhy?"}));
  EXPECT_EQ(beside_the_cut(piped.err),
            "restkv: 12 bytes of standard input are part of the prompt; < /dev/null leaves them "
            "out\n");
  const Outcome asked = joined({"-f", "-", "-p", "Why?", "-f", notes}, "The report.\n");
  EXPECT_EQ(asked.out, answer({"-n", "12", "-p", "The report.\n\nThe notes.\n\nWhy?"}));
  EXPECT_EQ(beside_the_cut(asked.err), "");
  EXPECT_EQ(joined({"-f", notes}, "The report.\n").out,
            answer({"-n", "12", "-p", "The notes.\n\nThe report.\n"}));

  write_bytes(report, "");
  EXPECT_THAT(refusal(2, {"-f", report, "-p", "Why?"}),
              HasSubstr("the prompt from " + report + " is empty"));
  EXPECT_THAT(refusal(2, {"-f", "-", "-f", "-"}), HasSubstr("-f - is given twice"));
}

TEST_F(CliRun, ReadsTheTextOfPagesAndPdfDocuments) {
  const std::string page = folder_.file("page.htm");
  write_bytes(page, "<title>Harbour</title><nav>Home</nav><p>It was <b>opened</b> in 1890.");
  const std::string text = "Harbour\n\nIt was opened in 1890.";
  const Outcome asked = restkv_process(arguments({"-n", "12", "-f", page, "-p", "When?"}));
  EXPECT_EQ(asked.out, answer({"-n", "12", "-p", text + "\n\nWhen?"}));
  EXPECT_EQ(beside_the_cut(asked.err),
            "restkv: " + page + " is an HTML page: its text is the prompt, 32 bytes of 69\n");

  const std::string report = folder_.file("report");
  write_bytes(report, testing::make_pdf({"It was opened in 1890."}));
  if (document::can_read_pdf()) {
    const Outcome read = restkv_process(arguments({"-n", "12", "-f", report, "-p", "When?"}));
    EXPECT_EQ(read.out, answer({"-n", "12", "-p", "It was opened in 1890.\n\nWhen?"}));
    EXPECT_THAT(read.err, HasSubstr(report + " is a PDF document: its text is the prompt"));
  } else {
    EXPECT_THAT(refusal(1, {"-f", report}), HasSubstr("pdftotext"));
  }
  write_bytes(report, "PK\x03\x04\xFF");
  EXPECT_THAT(refusal(1, {"-f", report}), HasSubstr("is a zip archive"));
}

TEST_F(CliRun, DoesNotAnswerWithoutWhatAnOpenPipeMayBring) {
  const Outcome outcome = restkv_process(
      Spawn{.arguments = arguments({"-p", "hello"}),
            .keep_input_open = true,
            .interrupt_when = [](const Outcome& so_far) {
              return so_far.err.find("waiting for standard input") != std::string::npos;
            }});
  EXPECT_EQ(outcome.signal, SIGINT);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(CliRun, SaysWhatWasDroppedAndWhyAnAnswerEnds) {
  const Outcome outcome = run({"-n", "3", "--raw", "-p", long_text(1500)});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, ::testing::ContainsRegex(
                               "restkv: kept 1024 of [0-9]+ tokens per KV head; --budget N keeps "
                               "N, --method full all\n"));
  EXPECT_THAT(outcome.err, HasSubstr("restkv: stopped at --max-tokens 3\n"));
  // Who names a budget knows.
  const Outcome asked = run({"-n", "3", "--raw", "-p", long_text(1500), "--budget", "1024"});
  EXPECT_EQ(asked.err, "restkv: stopped at --max-tokens 3\n");
  EXPECT_EQ(stats_of({"-n", "3", "-p", "hello"}).at("finish_reason"), "length");
  EXPECT_EQ(stats_of({"-n", "0", "-p", "hello", "--save-cache", folder_.file("c.rkv")})
                .at("finish_reason"),
            nullptr);
}

TEST_F(CliRun, ADashIsStandardOutput) {
  const Outcome outcome = run({"-n", "3", "-p", "hello", "--stats-json", "-"});
  EXPECT_EQ(outcome.exit_code, 0);
  const std::string expected = answer({"-n", "3", "-p", "hello"});
  ASSERT_THAT(outcome.out, StartsWith(expected));
  EXPECT_EQ(parse_json(outcome.out.substr(expected.size())).at("generated_tokens"), 3);
  EXPECT_FALSE(std::filesystem::exists("-"));
  EXPECT_THAT(refusal(2, {"-n", "3", "-p", "hello", "--save-cache", "-"}),
              HasSubstr("--save-cache cannot write to standard output"));
}

TEST_F(CliRun, TakesModelAndPromptWithoutTheirNames) {
  const std::string expected = answer({"-n", "8", "-p", "hello"});
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"run", tiny_, "hello"}, {"run", "-m", tiny_, "hello"}, {"run", "hello", "-m", tiny_}}) {
    std::vector<std::string> list = words;
    list.insert(list.end(), {"-t", "1", "-n", "8"});
    const Outcome outcome = restkv_process(list);
    EXPECT_EQ(outcome.out, expected) << outcome.err;
  }
}

TEST_F(CliRun, ReadsTheFilesOfAFolder) {
  std::filesystem::create_directories(folder_.file("src/deep"));
  std::filesystem::create_directories(folder_.file("src/.git"));
  write_bytes(folder_.file("src/b.py"), "print(2)\n");
  write_bytes(folder_.file("src/deep/a.py"), "print(1)\n");
  write_bytes(folder_.file("src/notes.txt"), "none");
  write_bytes(folder_.file("src/.git/c.py"), "print(3)\n");
  const std::string source = folder_.file("src");
  const std::string expected =
      source + "/b.py:\n\nprint(2)\n\n" + source + "/deep/a.py:\n\nprint(1)\n\nWhat?";
  EXPECT_EQ(answer({"-n", "8", "-f", source, "--glob", "*.py", "-p", "What?"}),
            answer({"-n", "8", "-p", expected}));
  EXPECT_EQ(answer({"-n", "8", "-f", source, "--glob", "deep/*", "-p", "What?"}),
            answer({"-n", "8", "-p", source + "/deep/a.py:\n\nprint(1)\n\nWhat?"}));
  EXPECT_THAT(refusal(2, {"-f", source}), HasSubstr("is a folder; say which of its files"));
  EXPECT_THAT(refusal(1, {"-f", source, "--glob", "*.c"}),
              HasSubstr("holds no file that matches --glob *.c"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--glob", "*.c"}), HasSubstr("--glob has no effect without"));
}

TEST_F(CliRun, ReportsAnAnswerThatAGrammarShapesAndAStopEnds) {
  const std::vector<std::string> shaped{
      "-p", "hello", "--json", "-n", "40", "--grammar", "root ::= \"yes, and no\""};
  EXPECT_EQ(parse_json(answer(shaped)).at("answer"), "yes, and no");
  std::vector<std::string> ended = shaped;
  ended.insert(ended.end(), {"--stop", ", a", "--stop", "never"});
  const Json json = parse_json(answer(ended));
  EXPECT_EQ(json.at("answer"), "yes");
  EXPECT_EQ(json.at("finish_reason"), "stop");
}

TEST_F(CliRun, AnswersEndWhereTheyAreToldTo) {
  const std::string whole = answer({"-n", "24", "-p", "hello"});
  const std::string stop = whole.substr(whole.size() / 2, 4);
  const Json stopped = stats_of({"-n", "24", "-p", "hello", "--stop", stop});
  EXPECT_EQ(stopped.at("finish_reason"), "stop");
  EXPECT_EQ(stopped.at("answer").text(), whole.substr(0, whole.find(stop)));

  // As long as the context is.
  TinyModel small = chat_model(200);
  const std::string model = folder_.file("small.gguf");
  small.write(model);
  const Outcome unlimited =
      restkv_process({"run", model, "-t", "1", "-n", "-1", "-p", "hello", "--temp", "3"});
  EXPECT_EQ(unlimited.exit_code, 0) << unlimited.err;
  EXPECT_THAT(unlimited.err, AnyOf(IsEmpty(), HasSubstr("stopped where the model's context of 200 "
                                                        "ends")));
  EXPECT_THAT(refusal(2, {"-p", "x", "-n", "-2"}), HasSubstr("--max-tokens"));
}

TEST_F(CliRun, AnswersFollowASchemaOrAGrammar) {
  const std::string schema = folder_.file("schema.json");
  const std::string text =
      R"({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
          "additionalProperties": false})";
  write_bytes(schema, text);
  for (const std::string& given : {schema, text}) {
    const Json json = parse_json(answer({"-p", "hello", "--json-schema", given, "-n", "40"}));
    const int n = json.at("n").get<int>();
    EXPECT_TRUE(n == 1 || n == 2);
  }
  const std::string grammar = folder_.file("answer.gbnf");
  write_bytes(grammar, "root ::= \"yes\" | \"no\"\n");
  for (const std::string& given : {grammar, std::string("root ::= \"yes\" | \"no\"")}) {
    EXPECT_THAT(answer({"-p", "hello", "--grammar", given}), AnyOf("yes\n", "no\n"));
  }
  EXPECT_THAT(refusal(2, {"-p", "x", "--grammar", grammar, "--json-schema", schema}),
              HasSubstr("leave one of them out"));
  write_bytes(grammar, "root ::= missing\n");
  EXPECT_THAT(refusal(2, {"-p", "x", "--grammar", grammar}), HasSubstr(grammar + ": grammar:1:"));
  write_bytes(schema, "[1]");
  EXPECT_THAT(refusal(1, {"-p", "x", "--json-schema", schema}), HasSubstr("is no JSON schema"));
  write_bytes(schema, R"({"type": "nonsense"})");
  EXPECT_THAT(refusal(1, {"-p", "x", "--json-schema", schema}), HasSubstr(schema + ": "));
}

TEST_F(CliRun, TheStatisticsTellHowAnAnswerCameAbout) {
  const Json stats =
      stats_of({"-n", "40", "--raw", "-p", long_text(200), "--budget", "64", "--decode-interval",
                "8", "--temp", "1", "--seed", "7", "--logprobs", "2"});
  EXPECT_EQ(stats.at("model"), Json(tiny_));
  EXPECT_FALSE(stats.at("version").text().empty());
  EXPECT_EQ(stats.at("seed"), 7);
  EXPECT_EQ(stats.at("temperature"), 1);
  EXPECT_GE(stats.at("cuts").get<int>(), 3);
  EXPECT_LE(stats.at("kept_at_end").get<double>(), 72);
  EXPECT_GT(stats.at("kv_bytes_at_end").get<double>(), 0);
  const Json& tokens = stats.at("logprobs");
  ASSERT_EQ(Json(tokens.size()), stats.at("generated_tokens"));
  EXPECT_LE(tokens.at(0).at("logprob").get<double>(), 0);
  EXPECT_EQ(tokens.at(0).at("top_logprobs").size(), 2U);
  const Outcome text = run({"-n", "40", "--raw", "-p", long_text(200), "--budget", "64",
                            "--decode-interval", "8", "--stats"});
  EXPECT_THAT(text.err,
              ::testing::ContainsRegex("KV cache at the end +.*; cut [0-9]+ times while"));

  const Json printed = parse_json(answer({"-n", "3", "-p", "hello", "--json"}));
  EXPECT_EQ(printed.at("answer").text() + "\n", answer({"-n", "3", "-p", "hello"}));
  EXPECT_EQ(printed.at("finish_reason"), "length");
  EXPECT_THAT(refusal(2, {"-p", "x", "--json", "--stats-json", "-"}), HasSubstr("leave one"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--logprobs", "2"}), HasSubstr("add one of them"));
}

TEST_F(CliRun, TheTemplatesOwnSystemMessageIsThere) {
  const auto prompt = [&](const std::vector<std::string>& more) {
    std::vector<std::string> list{"-n", "1", "-p", "hello"};
    list.insert(list.end(), more.begin(), more.end());
    return stats_of(list).at("prompt_tokens").get<size_t>();
  };
  const std::string own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
  EXPECT_EQ(prompt({}), prompt({"--system", own}));
  EXPECT_LT(prompt({"--no-system"}), prompt({}));
  EXPECT_THAT(refusal(2, {"-p", "x", "--system", "y", "--no-system"}), HasSubstr("contradict"));
}

TEST_F(CliRun, NamesOptionsThatHaveNoEffect) {
  const auto notices = [](std::vector<std::string> more) {
    more.insert(more.end(), {"-n", "1", "-p", "hello"});
    return beside_the_cut(run(more).err);
  };
  EXPECT_EQ(notices({"--top-k", "5", "--seed", "7"}),
            "restkv: without effect at temperature 0: --top-k, --seed\n");
  EXPECT_EQ(notices({"--temp", "1", "--top-k", "5", "--seed", "7"}), "");
  EXPECT_EQ(notices({"--repeat-last-n", "5"}),
            "restkv: without effect without a penalty: --repeat-last-n\n");
  EXPECT_EQ(notices({"--repeat-last-n", "0", "--repeat-penalty", "1.1"}),
            "restkv: without effect with --repeat-last-n 0: --repeat-last-n, --repeat-penalty\n");
  EXPECT_EQ(notices({"--repeat-last-n", "5", "--repeat-penalty", "1.1"}), "");
  EXPECT_THAT(refusal(2, {"-p", "x", "--chunk", "64"}),
              HasSubstr("--chunk has no effect without --prefill chunked"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--decode-budget", "64"}),
              HasSubstr("no effect without --decode-interval"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--budget", "64", "--budget", "65"}), HasSubstr("--budget"));
}

TEST_F(CliRun, RawSkipsTheChatTemplate) {
  const Json chat = stats_of({"-n", "1", "-p", "hello"});
  const Json raw = stats_of({"-n", "1", "-p", "hello", "--raw"});
  EXPECT_EQ(raw.at("prompt_tokens"), Tokenizer(tiny_).encode("hello", true, true).size());
  EXPECT_GT(chat.at("prompt_tokens").get<double>(), raw.at("prompt_tokens").get<double>());
  EXPECT_NE(answer({"-n", "12", "-p", "hello"}), answer({"-n", "12", "-p", "hello", "--raw"}));
  EXPECT_GT(stats_of({"-n", "1", "-p", "hello", "--system", "Be long."})
                .at("prompt_tokens")
                .get<double>(),
            0);
  EXPECT_THAT(refusal(2, {"-p", "hello", "--raw", "--system", "Be brief."}),
              HasSubstr("--system has no effect with --raw"));
}

TEST_F(CliRun, KvTypeChoosesTheStorage) {
  const std::string prompt = long_text(300);
  const auto kept = [&](const std::string& type) {
    const Json stats =
        stats_of({"-n", "4", "--raw", "-p", prompt, "--method", "full", "--kv-type", type});
    EXPECT_EQ(stats.at("kv_type"), type);
    return stats.at("kv_bytes_kept").get<double>();
  };
  const double halves = kept("f16");
  EXPECT_EQ(stats_of({"-n", "4", "--raw", "-p", prompt, "--method", "full"}).at("kv_bytes_kept"),
            halves);
  EXPECT_EQ(kept("f32"), 2 * halves);
  EXPECT_LT(kept("q8"), 0.75 * halves);
  EXPECT_LT(kept("q4"), 0.8 * kept("q8"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--kv-type", "q5"}), HasSubstr("choose one of f16, f32, q8"));
}

TEST_F(CliRun, LinearAndAttentionChooseThePrecisionOfPrompts) {
  const Json stats = stats_of(
      {"-n", "4", "--raw", "-p", long_text(300), "--linear", "auto", "--attention", "auto"});
  EXPECT_GT(stats.at("prompt_tokens").get<double>(), 128);
  EXPECT_THAT(refusal(2, {"-p", "x", "--linear", "fp8"}), HasSubstr("'fp8' is unknown"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--attention", "fp8"}), HasSubstr("'fp8' is unknown"));
}

TEST_F(CliRun, FeedsBaseModelsThePromptAsItIsAndSaysSo) {
  TinyModel model = description();
  model.edit_metadata = [](gguf_context* gguf) {
    ASSERT_GE(gguf_remove_key(gguf, "tokenizer.chat_template"), 0);
  };
  const std::string path = folder_.file("base.gguf");
  model.write(path);
  const std::vector<std::string> plain{"run", "-m", path, "-t", "1", "-n", "12", "-p", "hello"};
  const Outcome base = restkv_process(plain);
  EXPECT_EQ(base.exit_code, 0);
  EXPECT_EQ(
      beside_the_cut(base.err),
      "restkv: " + path + " has no chat template (a base model?); the prompt is fed as it is\n");
  // The same weights as those of the other tests.
  EXPECT_EQ(base.out, answer({"-n", "12", "-p", "hello", "--raw"}));
  std::vector<std::string> raw = plain;
  raw.emplace_back("--raw");
  EXPECT_EQ(beside_the_cut(restkv_process(raw).err), "");
  std::vector<std::string> system = plain;
  system.insert(system.end(), {"--system", "Be brief."});
  const Outcome refused = restkv_process(system);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--system needs a chat template"));
}

TEST_F(CliRun, StatisticsGoToStandardError) {
  const std::vector<std::string> plain{"-n", "8", "-p", "hello"};
  std::vector<std::string> with_stats = plain;
  with_stats.emplace_back("--stats");
  const Outcome outcome = run(with_stats);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, answer(plain));
  for (const char* row : {"method  ", "prompt tokens  ", "time to first token  ",
                          "generated tokens  ", "KV cache kept  ", "peak resident memory  "}) {
    EXPECT_THAT(outcome.err, HasSubstr(row));
  }
  EXPECT_THAT(outcome.err, Not(HasSubstr("interrupted")));
}

TEST_F(CliRun, StatisticsAreRight) {
  const std::string prompt = long_text(300);
  const size_t tokens = Tokenizer(tiny_).encode(prompt, true, true).size();
  ASSERT_GT(tokens, 200U);
  constexpr size_t kBytesPerToken = 2 * 2 * (16 + 16) * 2;  // layers, KV heads, k and v, half
  for (const char* method : {"restkv", "snapkv", "streaming-llm", "full"}) {
    SCOPED_TRACE(method);
    const bool full = std::string_view(method) == "full";
    std::vector<std::string> arguments{"-n", "5", "--raw", "-p", prompt, "--method", method};
    if (!full) arguments.insert(arguments.end(), {"--budget", "64"});
    const Json stats = stats_of(arguments);
    EXPECT_EQ(stats.at("method"), method);
    EXPECT_EQ(stats.at("budget"), full ? 0 : 64);
    EXPECT_EQ(stats.at("prompt_tokens"), tokens);
    EXPECT_EQ(stats.at("kv_bytes_full"), tokens * kBytesPerToken);
    EXPECT_EQ(stats.at("kv_bytes_kept"), (full ? tokens : 64) * kBytesPerToken);
    EXPECT_GT(stats.at("load_seconds").get<double>(), 0.0);
    EXPECT_GT(stats.at("time_to_first_token_seconds").get<double>(), 0.0);
    EXPECT_LT(stats.at("compress_seconds").get<double>(),
              stats.at("time_to_first_token_seconds").get<double>());
    EXPECT_LE(stats.at("generated_tokens").get<double>(), 5);
    EXPECT_GE(stats.at("generated_tokens").get<double>(), 1);
    EXPECT_GT(stats.at("peak_resident_bytes").get<double>(), std::filesystem::file_size(tiny_) / 2);
    EXPECT_LT(stats.at("peak_resident_bytes").get<double>(), size_t{4} << 30U);
    EXPECT_EQ(stats.at("interrupted"), false);
  }
}

TEST_F(CliRun, BudgetsMayChooseThemselves) {
  const std::vector<std::string> prompt{"-n", "40", "--raw", "-p", long_text(300)};
  const auto stats = [&](std::vector<std::string> more) {
    more.insert(more.end(), prompt.begin(), prompt.end());
    return stats_of(more);
  };
  double before = 0;
  for (const char* tolerance : {"0.9", "0.4", "0.001"}) {
    const Json each = stats({"--budget", "auto", "--tolerance", tolerance, "--decode-interval", "8",
                             "--kv-type", "q8"});
    EXPECT_EQ(each.at("budget").text(), std::string("auto:") + tolerance);
    ASSERT_EQ(each.at("kept_of_layers").size(), 2);
    double kept = 0;
    for (const Json& layer : each.at("kept_of_layers")) {
      EXPECT_GE(layer.get<double>(), 33);
      kept += layer.get<double>();
    }
    EXPECT_GE(kept, before) << tolerance;
    before = kept;
  }
  EXPECT_EQ(stats({"--budget", "auto"}).at("budget").text(), "auto:0.05");
  EXPECT_EQ(stats({"--method", "snapkv", "--allocation", "ada", "--budget", "auto:0.1"})
                .at("budget")
                .text(),
            "auto:0.1");
  const Json bounded = stats({"--budget", "auto", "--tolerance", "0.001", "--max-budget", "50"});
  EXPECT_EQ(bounded.at("budget").text(), "auto:0.001:50");
  for (const Json& layer : bounded.at("kept_of_layers")) EXPECT_EQ(layer.get<double>(), 50);

  std::vector<std::string> list{"run", "-m", tiny_, "-t", "1", "--budget", "auto", "--stats"};
  list.insert(list.end(), prompt.begin(), prompt.end());
  const Outcome outcome = restkv_process(list);
  EXPECT_THAT(outcome.err, HasSubstr("restkv (budget auto:0.05)"));
  EXPECT_THAT(outcome.err, ::testing::ContainsRegex(
                               "tokens per KV head     [0-9]+; layer by layer [0-9]+ [0-9]+"));
}

TEST_F(CliRun, BudgetsThatCannotChooseThemselvesAreRefused) {
  const std::vector<std::pair<std::vector<std::string>, const char*>> cases{
      {{"--budget", "auto", "--tolerance", "0"}, "--tolerance is \"0\"; expected a number above 0"},
      {{"--budget", "auto", "--tolerance", "1"}, "--tolerance is \"1\"; expected a number above 0"},
      {{"--budget", "auto", "--tolerance", "nan"}, "--tolerance is \"nan\"; expected a number"},
      {{"--budget", "auto:2"}, "the budget is \"auto:2\"; expected auto"},
      {{"--budget", "auto:0.1", "--tolerance", "0.2"}, "say the same thing"},
      {{"--budget", "auto:0.1:50", "--max-budget", "60"}, "say the same thing"},
      {{"--budget", "auto", "--max-budget", "20"}, "budget 20 leaves no room"},
      {{"--budget", "auto", "--max-budget", "0"}, "--max-budget"},
      {{"--tolerance", "0.1"}, "--tolerance has no effect without --budget auto"},
      {{"--budget", "64", "--max-budget", "80"}, "--max-budget has no effect without"},
      {{"--budget", "auto", "--method", "keydiff"}, "method keydiff has no observation window"},
      {{"--budget", "auto", "--method", "kvzip"}, "method kvzip has no observation window"},
      {{"--budget", "auto", "--method", "full"}, "--budget has no effect on method full"},
      {{"--budget", "auto", "--allocation", "pyramid"}, "shares one budget out over the layers"},
      {{"--budget", "auto", "--allocation", "global"}, "shares one budget out over the layers"},
      {{"--budget", "auto", "--merge"}, "merge changes values"},
      {{"--budget", "auto", "--positions", "compact"}, "let no layer choose its budget"},
      {{"--budget", "auto", "--load-cache", "x"}, "--budget is auto, but a loaded cache"}};
  for (const auto& [more, why] : cases) {
    std::vector<std::string> list = more;
    list.insert(list.end(), {"-p", "hi"});
    EXPECT_THAT(refusal(2, list), HasSubstr(why));
  }
}

TEST_F(CliRun, SlidingWindowsAreNotEvicted) {
  TinyModel model = find_preset("tiny-gemma3");
  model.tokenizer = test_model_path();
  const std::string path = folder_.file("gemma3.gguf");
  model.write(path);
  const Outcome outcome =
      restkv_process({"run", "-m", path, "-t", "1", "-n", "3", "--raw", "-p", long_text(300),
                      "--budget", "40", "--stats", "--stats-json", folder_.file("stats.json")});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("sliding windows        6 of 7 layers keep theirs; the budget is for the "
                        "others"));
  const Json stats = parse_json(read_bytes(folder_.file("stats.json")));
  EXPECT_EQ(stats.at("window_layers"), 6);
  // Keys and values of one KV head of 128 channels, in halves.
  EXPECT_EQ(stats.at("kv_bytes_kept"), (6 * model.window + 40) * 2 * 128 * 2);
}

TEST_F(CliRun, SparsePrefillTellsWhatItLeftOut) {
  const std::vector<std::string> prompt{"-n", "3", "--raw", "-p", long_text(1000)};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), prompt.begin(), prompt.end());
    return more;
  };
  EXPECT_EQ(stats_of(with({})).at("sparse"), "dense");
  const Json sparse =
      stats_of(with({"--sparse", "a-shape:sinks=64:local=64", "--sparse-recall"})).at("sparse");
  EXPECT_EQ(sparse.at("pattern"), "a-shape:sinks=64:local=64");
  EXPECT_LT(sparse.at("density").get<double>(), 1);
  EXPECT_LT(sparse.at("recall").get<double>(), 1);
  ASSERT_EQ(sparse.at("density_of_layers_and_heads").size(), description().layers);
  EXPECT_EQ(sparse.at("recall_of_layers_and_heads")[0].size(), description().query_heads);

  const Outcome outcome = run(with({"--sparse", "xattention", "--stats"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("sparse prefill         xattention:stride=16:threshold=0.9\n"));
  EXPECT_THAT(outcome.err, HasSubstr("density"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("recall")));

  EXPECT_THAT(refusal(2, with({"--sparse", "stripes"})), HasSubstr("known are dense, a-shape"));
  EXPECT_THAT(refusal(2, with({"--sparse", "xattention:gamma=1"})),
              HasSubstr("it reads stride, threshold"));
  EXPECT_THAT(refusal(2, with({"--sparse-recall"})), HasSubstr("no effect without --sparse"));
}

TEST_F(CliRun, TheSeedDecides) {
  const auto sampled = [](const char* seed) {
    return answer({"-n", "24", "-p", "hello", "--temp", "0.8", "--seed", seed});
  };
  const std::string first = sampled("1");
  EXPECT_EQ(sampled("1"), first);
  EXPECT_NE(sampled("2"), first);
}

TEST_F(CliRun, MaxTokensIsALimit) {
  EXPECT_EQ(stats_of({"-n", "3", "-p", "hello"}).at("generated_tokens"), 3);
  EXPECT_THAT(refusal(2, {"-p", "hello", "--max-tokens", "0"}), HasSubstr("--max-tokens"));
  EXPECT_THAT(refusal(2, {"-p", "hello", "--max-tokens", "-2"}), HasSubstr("--max-tokens"));
}

TEST_F(CliRun, RefusesBadCompressionOptions) {
  EXPECT_THAT(refusal(2, {"-p", "x", "--method", "magic"}),
              HasSubstr("no method \"magic\"; known are restkv, snapkv, streaming-llm, h2o"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--budget", "32"}),
              HasSubstr("budget 32 leaves no room beside the observation window of 32"));
  EXPECT_THAT(
      refusal(2, {"-p", "x", "--budget", "many"}),
      HasSubstr(
          "the budget is \"many\"; expected a number of tokens (512) from 1 to 2147483647, a"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--budget", "1k"}),
              HasSubstr("\"1k\", which may mean 1000 or 1024 tokens; write the number"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--kernel", "4"}), HasSubstr("kernel is 4"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--preset", "paper", "--kernel", "6"}),
              HasSubstr("kernel is 6"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--preset", "mine"}), HasSubstr("expected default or paper"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--kernel", "-1"}), HasSubstr("a whole number or auto"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--pooling", "soft"}), HasSubstr("expected one of none"));
  const std::string ignored = refusal(2, {"-p", "x", "--method", "snapkv", "--alpha", "0.5"});
  EXPECT_THAT(ignored, HasSubstr("--alpha has no effect on method snapkv"));
  EXPECT_THAT(ignored, HasSubstr("--window, --pooling, --kernel"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--method", "full", "--kernel", "5"}),
              HasSubstr("--kernel has no effect on method full, which keeps everything;"));
}

TEST_F(CliRun, RefusesBadSamplingAndThreads) {
  EXPECT_THAT(refusal(2, {"-p", "x", "--temp", "1", "--top-p", "2"}),
              HasSubstr("top_p is 2; expected a value in (0, 1]"));
  EXPECT_THAT(refusal(2, {"-p", "x", "--temp", "-1"}), HasSubstr("temperature is -1"));
  const Outcome none = restkv_process({"run", "-m", tiny_, "-p", "x", "--threads", "-1"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("--threads is -1; expected 1 or more"));
  // More than there can be are as many as there are.
  const Outcome many =
      restkv_process({"run", "-m", tiny_, "-p", "x", "-n", "1", "--threads", "100000"});
  EXPECT_EQ(many.exit_code, 0) << many.err;
  EXPECT_THAT(many.err, HasSubstr("--threads 100000 is more than "));
}

TEST_F(CliRun, RefusesPromptsThatAreNotThere) {
  EXPECT_THAT(refusal(2, {"-p", ""}), HasSubstr("the value of -p is empty"));
  EXPECT_THAT(refusal(2, {}), HasSubstr("the prompt from standard input is empty"));
  const std::string file = folder_.file("prompt.txt");
  EXPECT_THAT(refusal(1, {"-f", file}), HasSubstr("cannot read " + file + ": No such file"));
  write_bytes(file, "");
  EXPECT_THAT(refusal(2, {"-f", file}), HasSubstr("the prompt from " + file + " is empty"));
  EXPECT_THAT(refusal(2, {"-f", "/"}), HasSubstr("/: is a folder"));
}

TEST_F(CliRun, RefusesAPromptLongerThanTheContext) {
  TinyModel model = description();
  model.context = 64;
  const std::string path = folder_.file("short.gguf");
  model.write(path);
  const std::string prompt = long_text(100);
  const size_t tokens = Tokenizer(path).encode(prompt, true, true).size();
  const Outcome outcome =
      restkv_process({"run", "-m", path, "--raw", "-n", "7", "-p", prompt, "-t", "1"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr(std::to_string(tokens) + " prompt tokens"));
  EXPECT_THAT(outcome.err, HasSubstr("--max-tokens 7"));
  EXPECT_THAT(outcome.err, HasSubstr("context of 64"));
  EXPECT_THAT(outcome.err, HasSubstr("shorten the prompt"));
}

TEST_F(CliRun, RefusesModelsItCannotRead) {
  const std::string path = folder_.file("model.gguf");
  const auto message = [&] {
    const Outcome outcome = restkv_process({"run", "-m", path, "-p", "x"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr(path));
    return outcome.err;
  };
  EXPECT_THAT(message(), HasSubstr("No such file"));
  const std::string whole = read_bytes(tiny_);
  write_bytes(path, std::string_view(whole).substr(0, 100000));
  EXPECT_THAT(message(), HasSubstr("is damaged or incomplete (100000 bytes)"));
  write_bytes(path, std::string_view(whole).substr(0, whole.size() - 100000));
  EXPECT_THAT(message(), HasSubstr("incomplete"));
  write_bytes(path, random_bytes(100000, 6));
  EXPECT_THAT(message(), HasSubstr("does not begin with the letters GGUF"));
  write_bytes(path, "GGUF" + random_bytes(100000, 7));
  EXPECT_THAT(message(), HasSubstr("is damaged or incomplete"));
  TinyModel foreign = description();
  foreign.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "general.architecture", "mamba");
  };
  foreign.write(path);
  EXPECT_THAT(message(), HasSubstr("'mamba' is not supported"));
  foreign.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "general.architecture", "\x1b[31mred");
  };
  foreign.write(path);
  EXPECT_THAT(message(), HasSubstr("'?[31mred' is not supported"));
  TinyModel mute;  // has no tokenizer
  mute.write(path);
  EXPECT_THAT(message(), HasSubstr("tokenizer"));
}

TEST_F(CliRun, ReportsOutputThatCannotBeWritten) {
  const std::vector<std::string> short_run = arguments({"-n", "8", "-p", "hello"});
  const Outcome gone = restkv_process(Spawn{.arguments = short_run, .reader_gone = true});
  EXPECT_EQ(gone.signal, SIGPIPE);
  EXPECT_EQ(gone.err, "");
  const Outcome full = restkv_process(Spawn{.arguments = short_run, .stdout_path = "/dev/full"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("cannot write to standard output: No space left"));
  // The answer is not lost with its statistics.
  const Outcome stats = run({"-n", "8", "-p", "hello", "--stats-json", "/dev/full"});
  EXPECT_EQ(stats.exit_code, 1);
  EXPECT_EQ(stats.out, answer({"-n", "8", "-p", "hello"}));
  EXPECT_THAT(stats.err, HasSubstr("cannot write /dev/full: No space left"));
}

TEST_F(CliRun, CtrlCWhileWaitingForThePromptEndsAtOnce) {
  const Outcome outcome = restkv_process(Spawn{
      .arguments = arguments({}), .keep_input_open = true, .interrupt_when = [](const Outcome&) {
        return true;
      }});
  EXPECT_EQ(outcome.signal, SIGINT);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(CliRun, CtrlCWhileAnsweringKeepsWhatThereIs) {
  const std::string path = folder_.file("stats.json");
  const Outcome outcome = restkv_process(
      Spawn{.arguments = arguments({"-n", "30000", "-p", "hello", "--stats-json", path}),
            .interrupt_when = [](const Outcome& so_far) { return so_far.out.size() > 20; }});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_EQ(outcome.out.back(), '\n');
  EXPECT_THAT(outcome.err, Not(HasSubstr("generated tokens")));  // nobody asked for figures here
  EXPECT_THAT(outcome.err, HasSubstr("restkv: interrupted"));
  const Json stats = parse_json(read_bytes(path));
  EXPECT_EQ(stats.at("interrupted"), true);
  EXPECT_GT(stats.at("generated_tokens").get<double>(), 0);
  EXPECT_LT(stats.at("generated_tokens").get<double>(), 30000);
}

TEST_F(CliRun, CtrlCWhileReadingALongPromptThatShowsItsProgress) {
  const std::string prompt = folder_.file("prompt.txt");
  const std::string path = folder_.file("stats.json");
  write_bytes(prompt, long_text(7000));
  const Outcome outcome =
      restkv_process(Spawn{.arguments = {"run", "-m", test_model_path(), "-t", "1", "-f", prompt,
                                         "--stats", "--stats-json", path},
                           .interrupt_when = [](const Outcome& so_far) {
                             return std::count(so_far.err.begin(), so_far.err.end(), '\n') >= 1;
                           }});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_EQ(outcome.out, "");
  // Standard error is no terminal here: plain lines, no escape codes.
  EXPECT_THAT(outcome.err, ::testing::ContainsRegex("^reading the prompt: [0-9]+% "));
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
  EXPECT_THAT(outcome.err, HasSubstr("prompt tokens"));
  EXPECT_THAT(outcome.err, HasSubstr("interrupted while reading the prompt"));
  const Json stats = parse_json(read_bytes(path));
  EXPECT_EQ(stats.at("interrupted"), true);
  EXPECT_GT(stats.at("prompt_tokens").get<double>(), 5000);
  EXPECT_EQ(stats.at("generated_tokens"), 0);
}

}  // namespace
}  // namespace restkv
