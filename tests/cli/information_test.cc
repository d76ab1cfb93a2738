// Commands that only tell something: help, version, methods, inspect.

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "cli/cli_test.h"
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
  const Outcome help = restkv_process({"run", "--help"});
  for (const CompressionOption& option : compression_options()) {
    std::string flag = "--" + std::string(option.name) + " ";
    std::replace(flag.begin(), flag.end(), '_', '-');
    EXPECT_THAT(help.out, HasSubstr(flag));
  }
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
  const Outcome none = restkv_process(std::vector<std::string>{});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr("commands are run, ask, chat, serve, inspect, models, methods, "
                                  "demo, eval, report, calibrate, bench\n"));
  const Outcome unknown = restkv_process({"frobnicate"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err,
              HasSubstr("frobnicate; commands are run, ask, chat, serve, inspect, models, "
                        "methods, demo, eval, report, calibrate, bench\n"));
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

TEST(CliMethods, ListsEveryMethodWithItsPaperOptionsAndDefaults) {
  const Outcome list = restkv_process({"methods"});
  ASSERT_EQ(list.exit_code, 0);
  std::istringstream lines(list.out);
  std::string line;
  for (const Method& method : methods()) {
    SCOPED_TRACE(method.name);
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, method.name);
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, "  " + std::string(method.summary));
    if (!method.paper.empty()) {
      ASSERT_TRUE(std::getline(lines, line));
      EXPECT_EQ(line, "  " + std::string(method.paper));
    }
    for (const std::string_view name : method.options) {
      ASSERT_TRUE(std::getline(lines, line));
      std::istringstream words(line);
      std::string first;
      std::string second;
      words >> first >> second;
      EXPECT_EQ(first, name);
      EXPECT_EQ(second, find_compression_option(name).get(method.defaults));
    }
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, "");
  }
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(line, "Sparse patterns for reading prompts (--sparse)");
  for (const SparsePattern& pattern : sparse_patterns()) {
    SCOPED_TRACE(pattern.name);
    for (const std::string& expected :
         {std::string(), std::string(pattern.name), "  " + std::string(pattern.summary),
          "  " + std::string(pattern.paper)}) {
      ASSERT_TRUE(std::getline(lines, line));
      EXPECT_EQ(line, expected);
    }
    for (const std::string_view name : pattern.options) {
      ASSERT_TRUE(std::getline(lines, line));
      EXPECT_THAT(line, HasSubstr("    " + std::string(name)));
    }
  }
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(line, "");
  EXPECT_FALSE(std::getline(lines, line)) << line;
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

}  // namespace
}  // namespace restkv
