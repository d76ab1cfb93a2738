// The files that commands write, tried before any work; names from files, which no terminal obeys.

#include <fcntl.h>
#include <fmt/format.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli_test.h"
#include "cli/process.h"
#include "support/sanitizers.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

class CliFiles : public ::testing::Test {
 protected:
  CliFiles() {
    chat_model().write(model_);
    std::ofstream(prompt_) << "What is the capital of France?";
    std::ofstream(data_) << R"({"text": "hello there", "answers": ["x"], "max_new_tokens": 4})"
                         << "\n";
  }
  [[nodiscard]] Outcome run(std::vector<std::string> more) const {
    const std::vector<std::string> common{"run", "-m", model_, "-f", prompt_, "-n", "4", "-t", "1"};
    more.insert(more.begin(), common.begin(), common.end());
    return restkv_process(more);
  }
  /// Runs a shell's command with "restkv" in it: what it says, and at last its exit code.
  static std::string shell(const std::string& command) {
    const std::string with_program =
        "restkv() { " + restkv_program() + " \"$@\"; }; (" + command + ") 2>&1; echo exit $?";
    FILE* output = popen(with_program.c_str(), "r");
    std::string text;
    std::array<char, 4096> block;
    while (const size_t size = fread(block.data(), 1, block.size(), output)) {
      text.append(block.data(), size);
    }
    pclose(output);
    return text;
  }
  [[nodiscard]] size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(fs::path(model_).parent_path()),
                                             fs::directory_iterator()));
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
  std::string prompt_ = folder_.file("prompt.txt");
  std::string data_ = folder_.file("data.jsonl");
};

TEST_F(CliFiles, WhatCannotBeWrittenIsRefusedBeforeAnyWork) {
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  const std::string missing = folder_.file("missing/x");
  const std::string below_a_file = folder_.file("prompt.txt/x");
  const std::string here = fs::path(model_).parent_path().string();
  const std::string taken = folder_.file("taken");
  fs::create_directories(taken + "/index.html");
  std::vector<Case> cases;
  for (const char* option : {"--save-cache", "--stats-json"}) {
    cases.push_back({{option, missing}, "cannot write " + missing + ": No such file"});
    cases.push_back({{option, below_a_file}, "cannot write " + below_a_file + ": Not a directory"});
    cases.push_back({{option, here}, "cannot write " + here + ": Is a directory"});
    cases.push_back({{option, "/proc/x"}, "cannot write /proc/x: "});
  }
  const size_t before = files();
  for (const Case& each : cases) {
    const Outcome outcome = run(each.arguments);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("restkv: " + each.message));
  }
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"bench", "-m", model_, "--lengths", "8", "--json", missing},
           {"bench", "-m", model_, "--lengths", "8", "--csv", here},
           {"bench", "-m", model_, "--lengths", "8", "--svg", "/proc/x"},
           {"demo", "-m", model_, "-o", below_a_file},
           {"demo", "-m", "no.gguf", "-o", below_a_file},  // not even the model is looked at
           {"eval", "prompts", "-m", "no.gguf", "--data", data_, "-o", below_a_file},
           {"eval", "prompts", "-m", model_, "--data", data_, "-o", prompt_},
           {"report", here, "-o", below_a_file},
           {"demo", "-m", "no.gguf", "-o", taken},
           {"report", here, "-o", taken}}) {
    const Outcome outcome = restkv_process(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("restkv: cannot write "));
  }
  EXPECT_EQ(restkv_process({"demo", "-m", "no.gguf", "-o", folder_.file("new")}).exit_code, 1);
  EXPECT_EQ(files(), before) << "nothing is left behind";
}

// What is opened next would have their numbers, a thread's signals among it.
TEST_F(CliFiles, ClosedStandardStreamsAreEmptyAndTakeNothing) {
  const std::string program =
      fmt::format("timeout 60 {} run -m {} -n 2 -t 1 ", restkv_program(), model_);
  EXPECT_THAT(shell(program + "-f - <&-"), HasSubstr("standard input is empty"));
  EXPECT_THAT(shell(program + "<&-"), HasSubstr("standard input is empty"));
  EXPECT_THAT(shell(program + "-p hi <&-"), HasSubstr("exit 0"));
  EXPECT_THAT(shell(program + "-p hi >&-"), HasSubstr("cannot write to standard output"));
  EXPECT_THAT(shell(program + "-p hi 2>&-"), HasSubstr("exit 0"));
  EXPECT_THAT(shell(program + "-p hi --save-cache " + folder_.file("c") + " <&- >&- 2>&-"),
              HasSubstr("exit 1"));
  EXPECT_FALSE(fs::exists(folder_.file("c")));
}

// Each would wait for ever, and where Ctrl-C is caught not even that would end it.
TEST_F(CliFiles, PipesAreNoModelsAndNoSnapshots) {
  const std::string pipe = folder_.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string program = fmt::format("timeout 60 {} ", restkv_program());
  EXPECT_THAT(shell(program + "inspect " + pipe), HasSubstr("is not a regular file"));
  EXPECT_THAT(shell(program + "run -p hi -m " + pipe), HasSubstr("is not a regular file"));
  EXPECT_THAT(shell(fmt::format("{} run -m {} -p hi --load-cache {}", program, model_, pipe)),
              HasSubstr("is not a regular file"));
  // Nobody reads the pipe, so the first signal ends the program.
  EXPECT_THAT(shell(fmt::format("timeout --kill-after 50 10 {} run -m {} -t 1 -n 1 -p hi "
                                "--stats-json {}",
                                restkv_program(), model_, pipe)),
              HasSubstr("exit 124"));
}

TEST_F(CliFiles, InputWithoutAnEndIsRefused) {
  const std::string chat =
      fmt::format("timeout 60 {} chat -m {} -n 2 -t 1 ", restkv_program(), model_);
  EXPECT_THAT(shell(chat + "</dev/zero"),
              HasSubstr("line 1 of standard input has more than 64 MiB\nexit 1"));
}

// It would come behind the answer, or take the place of the file that has it.
TEST_F(CliFiles, SnapshotsAreNotWrittenWhereTheAnswerGoes) {
  const std::string answer = folder_.file("answer");
  std::ofstream{answer};
  const std::string command =
      fmt::format("restkv run -m {} -f {} -n 2 -t 1 --save-cache ", model_, prompt_);
  for (const std::string& where :
       {std::string("/dev/stdout | cat"), "/dev/stdout >" + answer, answer + " >" + answer}) {
    const std::string out = shell(command + where);
    EXPECT_THAT(out, HasSubstr("--save-cache cannot write to standard output")) << where;
    EXPECT_THAT(read_file(answer), "");
  }
  EXPECT_THAT(shell(command + "/dev/null >/dev/null"), HasSubstr("exit 0"));
}

TEST_F(CliFiles, NoOutputTakesThePlaceOfAnInputOrAModel) {
  const std::string model_before = read_file(model_);
  const std::string link = folder_.file("link");
  fs::create_symlink("model.gguf", link);
  const std::string other = folder_.file("other.gguf");
  fs::copy_file(model_, other);
  const std::string cache = folder_.file("a.rkv");
  ASSERT_EQ(run({"--save-cache", cache}).exit_code, 0);
  const std::string cache_before = read_file(cache);

  const auto refused = [&](const Outcome& outcome, const std::string& message) {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr(message));
  };
  for (const char* option : {"--save-cache", "--stats-json"}) {
    refused(run({option, model_}), "is the file of --model, too");
    refused(run({option, link}), "is the file of --model, too");
    refused(run({option, prompt_}), "is the file of --file, too");
    refused(run({option, other}), "is a GGUF model");
  }
  refused(run({"--save-cache", data_}), "it holds something else than a saved session");
  refused(run({"--save-cache", folder_.file("x"), "--stats-json", folder_.file("./x")}),
          "is the file of --save-cache, too");
  refused(run({"--allocation", "profile", "--profile", data_, "--stats-json", data_}),
          "is the file of --profile, too");
  refused(run({"--method", "triattention", "--statistics", data_, "--stats-json", data_}),
          "is the file of --statistics, too");
  refused(restkv_process({"bench", "-m", model_, "--method",
                          "snapkv:allocation=profile:profile=" + data_, "--json", data_}),
          "is the file of snapkv:allocation=profile");
  for (const auto& [one, two] :
       {std::pair("./new", "new"), {"new", "$PWD/new"}, {"new", "x/../new"}}) {
    EXPECT_THAT(shell(fmt::format("cd {} && mkdir -p x && restkv run -m model.gguf -p x -n 1 "
                                  "--save-cache {} --stats-json {}",
                                  fs::path(model_).parent_path().string(), one, two)),
                HasSubstr("is the file of --save-cache, too"));
  }
  const auto go_on = [&](std::vector<std::string> more) {
    const std::vector<std::string> common{"run", "-m", model_, "--load-cache", cache, "-p",
                                          "so",  "-n", "4"};
    more.insert(more.begin(), common.begin(), common.end());
    return restkv_process(more);
  };
  refused(go_on({"--stats-json", cache}), "is the file of --load-cache, too");
  for (const char* option : {"--json", "--csv", "--svg"}) {
    refused(restkv_process({"bench", "-m", model_, option, link}), "is the file of --model, too");
    refused(restkv_process({"bench", "-m", model_, "--text", prompt_, option, prompt_}),
            "is the file of --text, too");
  }
  EXPECT_TRUE(read_file(model_) == model_before);
  EXPECT_TRUE(read_file(other) == model_before);
  EXPECT_TRUE(read_file(cache) == cache_before);
  // A conversation may be saved where it was loaded from.
  EXPECT_EQ(go_on({"--save-cache", cache}).exit_code, 0);
  EXPECT_FALSE(read_file(cache) == cache_before);
}

TEST_F(CliFiles, AChatGoesOnWhenItCannotBeSaved) {
  const Outcome chat = restkv_process(
      Spawn{.arguments = {"chat", "-m", model_, "-t", "1", "-n", "4"},
            .input = "hello\n/save " + folder_.file("missing/x") + "\n/save " + model_ +
                     "\n/save " + prompt_ + "\n/save " + folder_.file("a.rkv") + "\n"});
  EXPECT_EQ(chat.exit_code, 1) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("restkv: cannot write " + folder_.file("missing/x")));
  EXPECT_THAT(chat.err, HasSubstr("restkv: cannot save to " + model_));
  EXPECT_THAT(chat.err, HasSubstr("restkv: cannot save to " + prompt_));
  EXPECT_THAT(chat.err, HasSubstr("saved in " + folder_.file("a.rkv")));
  EXPECT_EQ(read_file(prompt_), "What is the capital of France?");
}

TEST_F(CliFiles, StandardOutputIsWrittenOnAndNotReplaced) {
  const std::string out = folder_.file("out.txt");
  std::ofstream(out) << "";
  const std::vector<std::string> arguments{"run", "-m", model_, "-f",           prompt_,      "-n",
                                           "4",   "-t", "1",    "--stats-json", "/dev/stdout"};
  EXPECT_EQ(restkv_process(Spawn{.arguments = arguments, .stdout_path = out}).exit_code, 0);
  const std::string piped = restkv_process(arguments).out;
  for (const std::string& text : {read_file(out), piped}) {
    const size_t json = text.find("{\n");
    ASSERT_NE(json, std::string::npos) << text;
    EXPECT_EQ(text.substr(0, json), run({}).out);
    EXPECT_EQ(parse_json(text.substr(json)).at("generated_tokens"), 4);
  }
}

TEST_F(CliFiles, ALimitOnTheSizeOfFilesIsAnError) {
  const std::string cache = folder_.file("a.rkv");
  const std::string said = shell("ulimit -f 8; restkv run -m " + model_ + " -f " + prompt_ +
                                 " -n 4 -t 1 --method full --save-cache " + cache);
  EXPECT_THAT(said, HasSubstr("cannot write " + cache + ": File too large"));
  EXPECT_THAT(said, HasSubstr("ulimit -f"));
  EXPECT_THAT(said, HasSubstr("exit 1\n"));
  EXPECT_EQ(files(), 3U) << "neither the file nor a part of it";
}

TEST_F(CliFiles, LittleMemoryNeverEndsInAnAbort) {
  if (testing::sanitized()) GTEST_SKIP() << "a sanitizer takes memory, too";
  size_t done = 0;
  size_t refused = 0;
  for (size_t kib = 60000; kib < 500000; kib += kib / 6) {
    const std::string limit = fmt::format("ulimit -v {}; ", kib);
    // With less, the libraries do not get as far as main.
    if (shell(limit + "restkv --version").find("exit 0\n") == std::string::npos) continue;
    const std::string said = shell(fmt::format("{}restkv run -m {} -p hello -n 2 -t 3 > {}", limit,
                                               model_, folder_.file("out")));
    SCOPED_TRACE(limit + said);
    ASSERT_THAT(said, AnyOf(HasSubstr("exit 0\n"), HasSubstr("exit 1\n")));
    if (said.find("exit 1\n") != std::string::npos) {
      ++refused;
      EXPECT_THAT(said, StartsWith("restkv: "));
    } else {
      ++done;
    }
  }
  EXPECT_GT(refused, 0U);
  EXPECT_GT(done, 0U) << "the last limits are enough";
}

/// Control characters, one of C1, an override of direction, and a byte that is not UTF-8.
constexpr const char* kForeign = "\x1b]0;t\x07\u009b31m\u202e";

void expect_harmless(const std::string& text) {
  for (const char* part : {"\x1b", "\x07", "\u009b", "\u202e"}) {
    EXPECT_THAT(text, Not(HasSubstr(part))) << text;
  }
}

TEST_F(CliFiles, NamesFromFilesAreNoCommandsToATerminal) {
  const std::string name = std::string("begin") + kForeign + "end";
  TinyModel model = chat_model();
  model.edit_metadata = [&](gguf_context* gguf) {
    gguf_set_val_str(gguf, "general.name", name.c_str());
  };
  const std::string path = folder_.file("foreign.gguf");
  model.write(path);
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"inspect", path},
                                             {"bench", "-m", path, "--lengths", "8", "--method",
                                              "full", "--runs", "1", "--decode", "2"}}) {
    const Outcome outcome = restkv_process(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("begin?]0;t??31m?end"));
    expect_harmless(outcome.out + outcome.err);
  }

  std::ofstream data(data_);
  for (const char* text : {"hello there", ""}) {  // the second one is refused by its place
    data << Json{{"text", text},
                 {"answers", {"x"}},
                 {"max_new_tokens", 4},
                 {"task", name},
                 {"id", name}}
                .dump()
         << "\n";
  }
  data << "{\"" << kForeign << "\n";
  data.close();
  const std::string run = folder_.file("run");
  const Outcome eval = restkv_process({"eval", "prompts", "-m", path, "--data", data_, "--method",
                                       "snapkv", "--budget", "48", "-o", run});
  EXPECT_EQ(eval.exit_code, 0) << eval.err;
  expect_harmless(eval.out + eval.err);
  const Outcome report = restkv_process({"report", run});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(report.out, HasSubstr("begin?]0;t??31m?end"));
  expect_harmless(report.out + report.err);
  size_t written = 0;
  for (const auto& file : fs::directory_iterator(run + "/report")) {
    if (file.path().extension() == ".json") continue;  // which keeps what was given
    expect_harmless(read_file(file.path().string()));
    ++written;
  }
  EXPECT_GE(written, 4U);
}

TEST(CliAnswers, AreFilteredAtATerminalAlone) {
  // Standard output of a child process: a terminal, then a pipe.
  const auto printed = [](bool at_terminal) {
    int from = -1;
    int to = -1;
    std::array<int, 2> ends{};
    if (at_terminal ? openpty(&from, &to, nullptr, nullptr, nullptr) != 0
                    : pipe(ends.data()) != 0) {
      return std::string("no terminal");
    }
    if (!at_terminal) std::tie(from, to) = std::pair(ends[0], ends[1]);
    const pid_t child = fork();
    if (child == 0) {
      dup2(to, STDOUT_FILENO);
      cli::print_answer(std::string("a") + kForeign + "\xff.");
      _exit(0);
    }
    close(to);
    waitpid(child, nullptr, 0);
    std::array<char, 100> block{};
    const ssize_t size = read(from, block.data(), block.size());
    close(from);
    return std::string(block.data(), static_cast<size_t>(std::max<ssize_t>(size, 0)));
  };
  EXPECT_EQ(printed(true), "a?]0;t??31m??.");
  EXPECT_EQ(printed(false), std::string("a") + kForeign + "\xff.");
}

}  // namespace
}  // namespace restkv
