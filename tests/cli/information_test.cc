// Commands that only tell something: help, version, methods, inspect.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/cli_test.h"
#include "cli/terminal.h"
#include "restkv/compression_options.h"
#include "restkv/sparse.h"

namespace restkv {
namespace {

using ::testing::ContainsRegex;

TEST(CliHelp, EveryCommandHasUsageAndExamples) {
  const std::vector<std::vector<std::string>> commands{
      {}, {"run"}, {"inspect"}, {"methods"}, {"demo"}, {"bench"}, {"models"}};
  for (std::vector<std::string> arguments : commands) {
    arguments.emplace_back("--help");
    const Outcome help = restkv_process(arguments);
    SCOPED_TRACE(arguments.front());
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out, HasSubstr("Usage: restkv"));
    EXPECT_THAT(help.out, ContainsRegex("Examples?:\n  "));
    EXPECT_EQ(help.err, "");
  }
}

TEST(CliHelp, RunNamesEveryCompressionOption) {
  const Outcome help = restkv_process({"run", "--help-all"});
  for (const CompressionOption& option : compression_options()) {
    std::string flag = "--" + std::string(option.name) + " ";
    std::replace(flag.begin(), flag.end(), '_', '-');
    EXPECT_THAT(help.out, HasSubstr(flag));
  }
}

TEST(CliHelp, IsShortUnlessAllIsAskedFor) {
  for (const char* command : {"run", "chat", "ask", "batch", "serve"}) {
    const std::string usual = restkv_process({command, "--help"}).out;
    EXPECT_LT(std::ranges::count(usual, '\n'), 75) << usual;
    EXPECT_THAT(usual, HasSubstr("--method NAME"));
    EXPECT_THAT(usual, HasSubstr("--budget "));
    EXPECT_THAT(usual, Not(HasSubstr("--ladder-span")));
    EXPECT_THAT(usual, HasSubstr(std::string("restkv ") + command + " --help-all"));
  }
}

TEST(CliHelp, CanBeAskedForInOtherWays) {
  EXPECT_EQ(restkv_process({"help"}).out, restkv_process({"--help"}).out);
  EXPECT_EQ(restkv_process({"help", "run"}).out, restkv_process({"run", "--help"}).out);
  EXPECT_EQ(restkv_process({"version"}).out, restkv_process({"--version"}).out);
}

TEST(CliHelp, ReportsAFullDisk) {
  const Outcome help = restkv_process(Spawn{.arguments = {"--help"}, .stdout_path = "/dev/full"});
  EXPECT_EQ(help.exit_code, 1);
  EXPECT_THAT(help.err, HasSubstr("No space left"));
}

TEST(CliVersion, IsOneLine) {
  const Outcome version = restkv_process({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, ContainsRegex("^restkv [0-9]+\\.[0-9]+\\.[0-9]+\n$"));
}

TEST(CliUsage, NamesTheCommandsIfNoneIsGivenOrKnown) {
  const std::string commands =
      "commands are run, ask, batch, chat, serve, inspect, models, methods, demo, eval, report, "
      "calibrate, "
      "bench, completion, man\n";
  const Outcome none = restkv_process(std::vector<std::string>{});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr(commands));
  const Outcome unknown = restkv_process({"frobnicate"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("frobnicate; " + commands));
  EXPECT_THAT(restkv_process({"rnu"}).err, HasSubstr("rnu (did you mean run?)"));
}

TEST(CliUsage, NamesUnknownAndMissingOptions) {
  const Outcome unknown = restkv_process({"run", "-m", "x", "--frobnicate"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("--frobnicate"));
  EXPECT_THAT(unknown.err, HasSubstr("restkv run --help"));
  const Outcome no_model = restkv_process({"run", "-p", "hello"});
  EXPECT_EQ(no_model.exit_code, 2);
  EXPECT_THAT(no_model.err, HasSubstr("--model is required"));
}

TEST(CliMethods, ListsEveryMethodOnALine) {
  const Outcome list = restkv_process({"methods"});
  ASSERT_EQ(list.exit_code, 0);
  for (const Method& method : methods()) {
    EXPECT_THAT(list.out, ContainsRegex("\n  " + std::string(method.name) + " +"));
    EXPECT_THAT(list.out, HasSubstr("  " + std::string(method.summary) + "\n"));
  }
  for (const SparsePattern& pattern : sparse_patterns()) {
    EXPECT_THAT(list.out, ContainsRegex("\n  " + std::string(pattern.name) + " +"));
  }
  const size_t lines = methods().size() + sparse_patterns().size();
  EXPECT_EQ(std::ranges::count(list.out, '\n'), lines + 5);
}

TEST(CliMethods, ShowsAMethodWithItsPaperOptionsAndDefaults) {
  for (const Method& method : methods()) {
    const Outcome shown = restkv_process({"methods", std::string(method.name)});
    SCOPED_TRACE(method.name);
    ASSERT_EQ(shown.exit_code, 0);
    std::istringstream lines(shown.out);
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, method.name);
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, "  " + std::string(method.summary));
    if (!method.paper.empty()) {
      ASSERT_TRUE(std::getline(lines, line));
      EXPECT_EQ(line, "  " + std::string(method.paper));
    }
    if (method.options.empty()) continue;
    ASSERT_TRUE(std::getline(lines, line));
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, "Options and their defaults:");
    for (const std::string_view name : method.options) {
      ASSERT_TRUE(std::getline(lines, line));
      std::istringstream words(line);
      std::string first;
      std::string second;
      words >> first >> second;
      EXPECT_EQ(first, name);
      EXPECT_EQ(second, find_compression_option(name).get(method.defaults));
    }
    EXPECT_FALSE(std::getline(lines, line)) << line;
  }
  for (const SparsePattern& pattern : sparse_patterns()) {
    const Outcome shown = restkv_process({"methods", std::string(pattern.name)});
    EXPECT_THAT(shown.out, HasSubstr(std::string(pattern.paper)));
    for (const std::string_view name : pattern.options) {
      EXPECT_THAT(shown.out, HasSubstr("  " + std::string(name) + " "));
    }
  }
  EXPECT_EQ(restkv_process({"methods", "SnapKV"}).out, restkv_process({"methods", "snapkv"}).out);
  const Outcome unknown = restkv_process({"methods", "snapvk"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("(did you mean snapkv?)"));
  EXPECT_EQ(restkv_process({"methods", "snapkv", "--markdown"}).exit_code, 2);
}

TEST(CliMethods, EndsQuietlyWhenTheReaderHasGone) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"methods"}, {"eval", "--list"}, {"--help"}, {"--version"}}) {
    const Outcome list = restkv_process(Spawn{.arguments = arguments, .reader_gone = true});
    EXPECT_EQ(list.signal, SIGPIPE);
    EXPECT_EQ(list.err, "");
  }
}

TEST(CliMethods, WaitsForAReaderWhosePipeDoesNotBlock) {
  const std::vector<std::string> arguments{"methods", "--markdown"};
  const Outcome slow = restkv_process(Spawn{.arguments = arguments, .nonblocking_stdout = true});
  EXPECT_EQ(slow.exit_code, 0) << slow.err;
  EXPECT_GT(slow.out.size(), 4096U) << "more than the pipe holds";
  EXPECT_EQ(slow.out, restkv_process(arguments).out);
}

TEST(CliInspect, ShowsTheSizesOfTheRealModel) {
  const Outcome model = restkv_process({"inspect", test_model_path()});
  ASSERT_EQ(model.exit_code, 0) << model.err;
  EXPECT_THAT(model.out, StartsWith("file "));
  EXPECT_THAT(model.out, HasSubstr(test_model_path()));
  EXPECT_THAT(model.out, ContainsRegex("architecture +llama, weights .*q4_1"));
  EXPECT_THAT(model.out, ContainsRegex("layers +30\n"));
  EXPECT_THAT(model.out, ContainsRegex("width +576 \\(feed-forward 1536\\)\n"));
  EXPECT_THAT(model.out, ContainsRegex("heads +9 query, 3 KV \\(GQA\\), 64 channels each\n"));
  EXPECT_THAT(model.out, ContainsRegex("vocabulary +49152 tokens\n"));
  EXPECT_THAT(model.out, ContainsRegex("native context +8192 tokens\n"));
  EXPECT_THAT(model.out, ContainsRegex("KV per token +22.5 KiB in half precision\n"));
  EXPECT_THAT(model.out, ContainsRegex("KV of full context +180.0 MiB\n"));
  EXPECT_THAT(model.out, ContainsRegex(" 512 +11.2 MiB +6.2%\n"));
}

TEST(CliInspect, TakesTheModelAsOtherCommandsDo) {
  const Outcome named = restkv_process({"inspect", "-m", test_model_path()});
  EXPECT_EQ(named.exit_code, 0) << named.err;
  EXPECT_EQ(named.out, restkv_process({"inspect", test_model_path()}).out);
}

TEST(CliInspect, ShowsASavedSession) {
  const TemporaryFolder folder;
  const std::string model = folder.file("tiny.gguf");
  const std::string saved = folder.file("saved.rkv");
  chat_model().write(model);
  ASSERT_EQ(restkv_process({"run", "-m", model, "-t", "1", "-p", "Which river\nis it?", "-n", "3",
                            "--budget", "64", "--method", "snapkv", "--save-cache", saved})
                .exit_code,
            0);
  const Outcome shown = restkv_process({"inspect", saved});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr(saved));
  EXPECT_THAT(shown.out, HasSubstr("a saved session"));
  EXPECT_THAT(shown.out, HasSubstr("snapkv (budget 64)"));
  EXPECT_THAT(shown.out, HasSubstr("1 turn, the last: Which river is it?"));
  EXPECT_THAT(shown.out, ContainsRegex("tokens +[0-9]+ were read, [0-9]+ per KV head are kept"));
}

TEST(CliInspect, NamesWhatItCannotRead) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.gguf");
  const Outcome absent = restkv_process({"inspect", path});
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_EQ(absent.out, "");
  EXPECT_THAT(absent.err, HasSubstr(path + ": cannot open the model: No such file"));

  TinyModel model;
  model.edit_metadata = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "general.architecture", "mamba");
  };
  model.write(path);
  const Outcome foreign = restkv_process({"inspect", path});
  EXPECT_EQ(foreign.exit_code, 1);
  EXPECT_THAT(foreign.err, HasSubstr(path));
  EXPECT_THAT(foreign.err, HasSubstr("'mamba' is not supported; known: llama"));
}

/// What bash would offer behind these words; the last one is what is being typed.
std::vector<std::string> completions(const std::string& script,
                                     const std::vector<std::string>& words) {
  const TemporaryFolder folder;
  const std::string file = folder.file("completion.bash");
  std::ofstream(file) << script;
  std::string command = "source '" + file + "'; COMP_WORDS=(";
  for (const std::string& word : words) command += "'" + word + "' ";
  command += "); COMP_CWORD=" + std::to_string(words.size() - 1) +
             "; _restkv; printf '%s\\n' \"${COMPREPLY[@]}\" > '" + folder.file("out") + "'";
  const std::string shell = "bash -c \"$RESTKV_COMMAND\"";
  setenv("RESTKV_COMMAND", command.c_str(), 1);
  EXPECT_EQ(std::system(shell.c_str()), 0);
  std::ifstream out(folder.file("out"));
  std::vector<std::string> offered;
  for (std::string line; std::getline(out, line);) offered.push_back(line);
  return offered;
}

TEST(CliCompletion, OffersCommandsOptionsAndNamesInBash) {
  const Outcome script = restkv_process({"completion", "bash"});
  ASSERT_EQ(script.exit_code, 0);
  const auto offers = [&](const std::vector<std::string>& words) {
    return completions(script.out, words);
  };
  using ::testing::Contains;
  using ::testing::ElementsAre;
  EXPECT_THAT(offers({"restkv", "ch"}), ElementsAre("chat"));
  EXPECT_THAT(offers({"restkv", "run", "--max-t"}), ElementsAre("--max-tokens"));
  EXPECT_THAT(offers({"restkv", "run", "--method", "snap"}), ElementsAre("snapkv"));
  EXPECT_THAT(offers({"restkv", "eval", "ru"}), Contains("ruler"));
  EXPECT_THAT(offers({"restkv", "run", "--kv-type", "q"}), ElementsAre("q8", "q4"));
  EXPECT_THAT(offers({"restkv", "methods", "xatt"}), ElementsAre("xattention"));
  EXPECT_THAT(offers({"restkv", "help", "ins"}), ElementsAre("inspect"));
}

bool is_installed(const std::string& program) {
  return std::system(("command -v " + program + " > /dev/null").c_str()) == 0;
}

// What the line has become after Tab.
TEST(CliCompletion, OffersTheSameInZsh) {
  if (!is_installed("zsh")) GTEST_SKIP() << "zsh is not installed";
  const TemporaryFolder folder;
  std::ofstream(folder.file("_restkv")) << restkv_process({"completion", "zsh"}).out;
  std::ofstream(folder.file("model.gguf")) << "GGUF";
  testing::Terminal zsh("zsh", {"-f", "-i"});
  zsh.type("cd '" + folder.file("") + "'; autoload -Uz compinit; compinit -u -D; unsetopt beep; " +
           "source ./_restkv; restkv() { print -r -- \"typed <$*>\" }; print rea''dy\n");
  zsh.wait_for("ready");
  const auto expect = [&](const std::string& begun, const std::string& whole) {
    zsh.type("restkv " + begun + "\t\n");
    zsh.wait_for("typed <" + whole + ">");
  };
  expect("ch", "chat");
  expect("run --max-t", "run --max-tokens");
  expect("run --method snap", "run --method snapkv");
  expect("run -m mod", "run -m model.gguf");
  expect("inspect mod", "inspect model.gguf");
  expect("eval ru", "eval ruler");
  expect("help ins", "help inspect");
}

TEST(CliCompletion, OffersTheSameInFish) {
  if (!is_installed("fish")) GTEST_SKIP() << "fish is not installed";
  const TemporaryFolder folder;
  const std::string script = folder.file("restkv.fish");
  std::ofstream(script) << restkv_process({"completion", "fish"}).out;
  std::ofstream(folder.file("model.gguf")) << "GGUF";
  std::string command = "cd '" + folder.file("") + "'; source '" + script + "'";
  const std::vector<std::pair<std::string, std::string>> lines{{"ch", "chat"},
                                                               {"run --max-t", "--max-tokens"},
                                                               {"run --method snap", "snapkv"},
                                                               {"run -m mod", "model.gguf"},
                                                               {"inspect mod", "model.gguf"},
                                                               {"eval ru", "ruler"},
                                                               {"help ins", "inspect"}};
  std::string offered;
  for (const auto& [begun, word] : lines) {
    command += "; complete -C 'restkv " + begun + "'";
    offered += word + "\n";
  }
  setenv("RESTKV_COMMAND", command.c_str(), 1);
  const std::string out = folder.file("out");
  // Without the descriptions, which follow a tab.
  const std::string shell = "HOME='" + folder.file("") +
                            "' fish --no-config -c \"$RESTKV_COMMAND\" | cut -f 1 > '" + out + "'";
  EXPECT_EQ(std::system(shell.c_str()), 0);
  std::ifstream file(out);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), offered);
}

TEST(CliCompletion, KnowsEveryOptionInEveryShell) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome script = restkv_process({"completion", shell});
    ASSERT_EQ(script.exit_code, 0) << script.err;
    for (const CompressionOption& option : compression_options()) {
      std::string name(option.name);
      std::ranges::replace(name, '_', '-');
      EXPECT_THAT(script.out, HasSubstr(name)) << shell;
    }
    EXPECT_THAT(script.out, HasSubstr("snapkv"));
    EXPECT_THAT(script.out, HasSubstr("help-all"));
    EXPECT_THAT(script.out, Not(HasSubstr("--job")));  // hidden
  }
  EXPECT_EQ(restkv_process({"completion", "tcsh"}).exit_code, 2);
}

TEST(CliMan, WritesAPageForEveryCommand) {
  const TemporaryFolder folder;
  const std::string pages = folder.file("man1");
  const Outcome outcome = restkv_process({"man", pages});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto page = [&](const std::string& name) {
    std::ifstream file(pages + "/" + name + ".1");
    return std::string{std::istreambuf_iterator<char>(file), {}};
  };
  EXPECT_THAT(page("restkv"), StartsWith(".TH RESTKV 1"));
  const std::string run = page("restkv-run");
  EXPECT_THAT(run, HasSubstr("\\fB\\-m\\fR, \\fB\\-\\-model\\fR \\fIMODEL\\fR"));
  EXPECT_THAT(run, HasSubstr("(default: 1024)"));
  EXPECT_THAT(run, HasSubstr(".SH EXAMPLES\n.nf\nrestkv run"));
  for (const char* name : {"restkv-chat", "restkv-eval", "restkv-man"}) {
    EXPECT_THAT(page(name), HasSubstr(".SH OPTIONS")) << name;
  }
  // No line is a request that nobody meant.
  std::istringstream lines(run);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('.')) continue;
    EXPECT_THAT(line, ContainsRegex("^\\.(TH|SH|SS|TP|nf|fi|BR)")) << line;
  }
  EXPECT_EQ(restkv_process({"man", "-"}).exit_code, 2);
}

}  // namespace
}  // namespace restkv
