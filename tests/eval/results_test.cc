#include "eval/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/sha256.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using restkv::testing::refusal;
using ::restkv::testing::TemporaryFolder;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

SampleResult sample(const std::string& task, size_t index) {
  SampleResult result;
  result.task = task;
  result.index = index;
  result.id = "id" + std::to_string(index);
  result.prompt_tokens = 100;
  result.reference = {{"answers", {"one", "two"}}};
  CellResult& cell = result.cells.emplace_back();
  cell.cell = "full";
  cell.answer.text = "a \"line\"\nand \xC3\xA9";
  cell.scores = {{"f1", 1.0 / 3}, {"exact", 0}};
  cell.kv_bytes = 4096;
  cell.compress_seconds = 0.25;
  cell.decode_seconds = 0.5;
  cell.decode_steps = 7;
  return result;
}

std::vector<std::string> keys(const std::vector<SampleResult>& results) {
  std::vector<std::string> list;
  for (const auto& r : results) list.push_back(r.task + "/" + std::to_string(r.index));
  return list;
}

void append_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::app | std::ios::binary) << text;
}

class ResultsTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string path_ = folder_.file("results.jsonl");
};

TEST_F(ResultsTest, KeepsEverythingButNotFiniteNumbers) {
  SampleResult written = sample("qa", 3);
  written.length = 4096;
  written.depth = 0.33;
  written.cut_from = 120;
  written.prompt_end = "What \"is\" it?\n";
  written.seconds = 1.0 / 7;
  written.peak_bytes = 123456789;
  written.cells[0].answer.more_texts = {"second"};
  written.cells[0].answer.turn_texts = {"turn"};
  written.cells[0].answer.turn_tokens = {5};
  written.cells.resize(3);  // first: references would not outlive a later one
  CellResult& choices = written.cells[1];
  choices.cell = "snapkv@64";
  choices.kept = 63.5;
  choices.scores = {{"acc", 1}};
  choices.answer.log_likelihoods = {-1.0 / 3, -std::numeric_limits<double>::infinity()};
  choices.answer.greedy = {1, 0};
  CellResult& losses = written.cells[2];
  losses.cell = "restkv@64";
  losses.answer.token_losses = {0.1, 0.2};
  losses.scores = {{"zeta", 1}, {"alpha", std::numeric_limits<double>::quiet_NaN()}};
  { ResultsFile(path_).append(written); }

  const auto results = read_results(path_);
  ASSERT_EQ(results.size(), 1U);
  const SampleResult& read = results[0];
  EXPECT_EQ(read.task, "qa");
  EXPECT_EQ(read.index, 3U);
  EXPECT_EQ(read.id, "id3");
  EXPECT_EQ(read.length, 4096U);
  EXPECT_EQ(read.depth, 0.33);
  EXPECT_EQ(read.cut_from, 120U);
  EXPECT_EQ(read.prompt_end, written.prompt_end);
  EXPECT_EQ(read.seconds, 1.0 / 7);
  EXPECT_EQ(read.peak_bytes, 123456789U);
  EXPECT_EQ(read.reference, written.reference);
  ASSERT_EQ(read.cells.size(), 3U);
  EXPECT_EQ(read.cells[0].answer.text, written.cells[0].answer.text);
  EXPECT_EQ(read.cells[0].answer.more_texts, written.cells[0].answer.more_texts);
  EXPECT_EQ(read.cells[0].answer.turn_texts, written.cells[0].answer.turn_texts);
  EXPECT_EQ(read.cells[0].answer.turn_tokens, written.cells[0].answer.turn_tokens);
  EXPECT_EQ(read.cells[0].scores, written.cells[0].scores);
  EXPECT_EQ(read.cells[0].kv_bytes, 4096U);
  EXPECT_EQ(read.cells[0].kept, std::nullopt);
  EXPECT_EQ(read.cells[1].kept, 63.5);
  EXPECT_EQ(read.cells[0].compress_seconds, 0.25);
  EXPECT_EQ(read.cells[0].decode_seconds, 0.5);
  EXPECT_EQ(read.cells[0].decode_steps, 7U);
  EXPECT_EQ(read.cells[1].answer.log_likelihoods[0], -1.0 / 3);
  EXPECT_TRUE(std::isnan(read.cells[1].answer.log_likelihoods[1]));
  EXPECT_EQ(read.cells[1].answer.greedy, choices.answer.greedy);
  EXPECT_EQ(read.cells[2].answer.token_losses, losses.answer.token_losses);
  EXPECT_EQ(read.cells[2].scores[0].first, "zeta") << "scores keep their order";
  EXPECT_TRUE(std::isnan(read.cells[2].scores[1].second));
}

TEST_F(ResultsTest, ForgetsATornLastLine) {
  { ResultsFile(path_).append(sample("qa", 0)); }
  const auto complete = std::filesystem::file_size(path_);
  const std::string second = to_line(sample("qa", 1));
  for (const std::string& torn : {second.substr(0, 40), second, std::string("\0\0", 2)}) {
    append_text(path_, torn);
    EXPECT_THAT(keys(read_results(path_)), ElementsAre("qa/0"));
    { ResultsFile(path_).append(sample("qa", 2)); }
    EXPECT_THAT(keys(read_results(path_)), ElementsAre("qa/0", "qa/2"));
    std::filesystem::resize_file(path_, complete);
  }
}

TEST_F(ResultsTest, NamesABadLineAndItsField) {
  const std::string good = to_line(sample("qa", 0));
  const auto edited = [&](const std::string& from, const std::string& to) {
    std::string line = good.substr(0, good.find(",\"checksum\"")) + "}";  // else it would not match
    line.replace(line.find(from), from.size(), to);
    return line;
  };
  const std::vector<std::pair<std::string, std::string>> bad{
      {"{\"task\": \"qa\"}", "field 'index' is missing"},
      {edited("\"index\":0", "\"index\":-1"), "field 'index' must be 0 or more, not -1"},
      {edited("\"seconds\":0.0", "\"seconds\":\"x\""), "field 'seconds' must be a number"},
      {edited("\"scores\":{\"f1\":0.3333333333333333,\"exact\":0.0}", "\"scores\":{}"),
       "field 'scores' is empty"},
      {edited("\"exact\":0.0", "\"exact\":[]"), "field 'exact' must be a number"},
      {edited("\"cells\":[", "\"cells\":[7,"), "expected an object with field 'cell', not 7"},
      {edited("\"id\"", "\"if\""), "field 'id' is missing"},
      {edited("\"reference\"", "\"reverence\""), "there is no field 'reverence'"},
      {edited("{\"answers\":[\"one\",\"two\"]}",
              std::string(100000, '[') + std::string(100000, ']')),
       "more than 64 levels"},
      {"[]", "expected an object with field 'task', not []"},
      {"7", "expected an object with field 'task', not 7"},
      {"", "parse error"},
      {good + "x", "parse error"},
  };
  for (const auto& [line, reason] : bad) {
    std::filesystem::remove(path_);
    { ResultsFile(path_).append(sample("qa", 1)); }
    append_text(path_, line + "\n");
    const std::string message = refusal(ErrorCode::kInput, [&] { read_results(path_); });
    EXPECT_THAT(message, HasSubstr(path_ + ":2: not the result of a sample"));
    EXPECT_THAT(message, HasSubstr(reason));
    EXPECT_THAT(message, Not(HasSubstr("json.exception")));
  }
}

std::string flipped(std::string text, size_t bit) {
  char& byte = text[bit / 8];
  byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1U << bit % 8));
  return text;
}

TEST_F(ResultsTest, NoticesEveryFlippedBit) {
  const std::string line = to_line(sample("qa", 0));
  EXPECT_EQ(from_line(line).id, "id0");
  for (size_t bit = 0; bit < 8 * line.size(); ++bit) {
    EXPECT_THROW(from_line(flipped(line, bit)), Error) << bit;
  }
  const std::string content = line + "\n" + to_line(sample("qa", 1)) + "\n";
  for (size_t bit = 0; bit < 8 * content.size() - 8; bit += 211) {
    std::ofstream(path_, std::ios::binary) << flipped(content, bit);
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { read_results(path_); }), HasSubstr(path_ + ":"));
  }
  // Without the end of the last line, its sample is run again.
  std::ofstream(path_, std::ios::binary) << flipped(content, 8 * content.size() - 8);
  EXPECT_THAT(keys(read_results(path_)), ElementsAre("qa/0"));
}

TEST_F(ResultsTest, TakesLinesOfEarlierVersionsAndRefusesEditedOnes) {
  const std::string line = to_line(sample("qa", 0));
  EXPECT_THAT(line, ContainsRegex(",\"checksum\":\"[0-9a-f]{16}\"}$"));
  append_text(path_, line.substr(0, line.find(",\"checksum\"")) + "}\n");
  { ResultsFile(path_).append(sample("qa", 1)); }
  EXPECT_THAT(keys(read_results(path_)), ElementsAre("qa/0", "qa/1"));

  std::string edited = line;
  edited.replace(edited.find("0.3333"), 6, "0.9999");
  append_text(path_, edited + "\n");
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { read_results(path_); }),
              HasSubstr(path_ + ":3: not the result of a sample (its checksum does not match"));
}

TEST_F(ResultsTest, CutsNothingOffAFileThatHoldsNoResults) {
  const std::string line = to_line(sample("qa", 0)) + "\n";
  for (const std::string& content :
       {std::string("line1\nprecious-no-newline"), std::string("precious-no-newline"),
        line + "precious-no-newline", line + "{\"id\": 1}\n" + line.substr(0, 20),
        std::string("{\"x\""), line + std::string("\0precious\n", 10) + "\0"}) {
    const std::string victim = folder_.file("victim.txt");
    std::ofstream(victim, std::ios::binary) << content;
    std::filesystem::remove(path_);
    std::filesystem::create_symlink("victim.txt", path_);
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { ResultsFile{path_}; }), HasSubstr(path_ + ":"));
    EXPECT_EQ(read_file(victim), content);
  }
}

TEST_F(ResultsTest, ReadsAllFilesOfAFolderAndEachSampleOnce) {
  { ResultsFile(folder_.file("results-2-of-2.jsonl")).append(sample("qa", 1)); }
  { ResultsFile(folder_.file("results-1-of-2.jsonl")).append(sample("qa", 0)); }
  {
    ResultsFile whole(path_);
    whole.append(sample("qa", 1));
    whole.append(sample("sum", 1));
  }
  append_text(folder_.file("notes.jsonl"), "not a result\n");
  EXPECT_THAT(keys(read_results(std::filesystem::path(path_).parent_path())),
              ElementsAre("qa/0", "qa/1", "sum/1"));
}

TEST_F(ResultsTest, OnlyOneProcessWritesAFile) {
  const ResultsFile first(path_);
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { const ResultsFile second(path_); }),
              HasSubstr("is being written by another process"));
}

/// Files of this process cannot grow beyond a size while this lives: like a disk that fills up.
class FullDisk {
 public:
  explicit FullDisk(size_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

TEST_F(ResultsTest, AFullDiskLosesNothing) {
  ResultsFile file(path_);
  file.append(sample("qa", 0));
  const auto before = read_file(path_);
  {
    const FullDisk full(before.size() + 50);  // room for a part of the line
    const std::string message = refusal(ErrorCode::kIo, [&] { file.append(sample("qa", 1)); });
    EXPECT_THAT(message, HasSubstr("cannot write " + path_));
    EXPECT_THAT(message, HasSubstr("the lines before are complete"));
  }
  EXPECT_EQ(read_file(path_), before);
  file.append(sample("qa", 1));
  EXPECT_THAT(keys(read_results(path_)), ElementsAre("qa/0", "qa/1"));
}

TEST_F(ResultsTest, ARunGoesOnWithItsSettingsOnly) {
  const std::filesystem::path run = folder_.file("runs/one");
  const Json settings = {{"benchmark", "longbench"}, {"limit", 5}, {"model", {{"file", "a.gguf"}}}};
  open_run(run, settings, {{"started", "today"}});
  EXPECT_EQ(read_run(run).at("settings"), settings);
  open_run(run, settings, {{"started", "tomorrow"}});
  EXPECT_EQ(read_run(run).at("circumstances").at("started"), "today");

  Json other = settings;
  other["limit"] = 6;
  other["model"]["file"] = "b.gguf";
  other["chat_template"] = true;
  const std::string message =
      refusal(ErrorCode::kInvalidArgument, [&] { open_run(run, other, {}); });
  EXPECT_THAT(message, HasSubstr(run.string() + " holds a run with other settings"));
  EXPECT_THAT(message, HasSubstr("limit: 5 there, 6 here"));
  EXPECT_THAT(message, HasSubstr("model/file: \"a.gguf\" there, \"b.gguf\" here"));
  EXPECT_THAT(message, HasSubstr("chat_template: nothing there, true here"));
  EXPECT_EQ(read_run(run).at("settings"), settings);
}

TEST_F(ResultsTest, RefusesFoldersThatAreNoRuns) {
  const std::filesystem::path here = std::filesystem::path(path_).parent_path();
  { ResultsFile(path_).append(sample("qa", 0)); }
  EXPECT_THAT(refusal(ErrorCode::kInput,
                      [&] {
                        open_run(here, {{"limit", 1}}, {});
                      }),
              HasSubstr("holds results but no run.json"));
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { read_run(here); }), HasSubstr("run.json"));
  append_text(folder_.file("run.json"), "{\"settings\": 3}");
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { read_run(here); }),
              HasSubstr("not the description of a run"));
  EXPECT_THAT(refusal(ErrorCode::kIo, [&] { open_run(path_ + "/run", {}, {}); }),
              HasSubstr("cannot make the folder"));
}

TEST_F(ResultsTest, HashesFiles) {
  append_text(path_, "abc");  // FIPS 180-2, appendix B.1
  EXPECT_EQ(sha256_of_file(path_),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::ofstream(path_, std::ios::binary) << std::string(1'000'000, 'a');  // B.3
  EXPECT_EQ(sha256_of_file(path_),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  append_text(folder_.file("a"), "a");
  append_text(folder_.file("bc"), "bc");
  const std::vector<std::string> pieces{folder_.file("a"), folder_.file("bc")};
  EXPECT_EQ(sha256_of_files(pieces),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { sha256_of_file(folder_.file("absent")); }),
              HasSubstr("cannot read " + folder_.file("absent")));
  EXPECT_THAT(refusal(ErrorCode::kInput,
                      [&] { sha256_of_file(std::filesystem::path(path_).parent_path()); }),
              HasSubstr("cannot read"));
}

}  // namespace
}  // namespace restkv::eval
