// `restkv bench`: what it measures, what it refuses before it measures, and what Ctrl-C leaves.

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli_test.h"

namespace restkv {
namespace {

using ::testing::ContainsRegex;
using ::testing::EndsWith;

class CliBench : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    suite_folder_ = std::make_unique<TemporaryFolder>();
    tiny_ = suite_folder_->file("tiny.gguf");
    chat_model(1024).write(tiny_);
  }
  static void TearDownTestSuite() { suite_folder_.reset(); }

  static std::vector<std::string> arguments(const std::vector<std::string>& more) {
    std::vector<std::string> list{"bench", "-m", tiny_, "-t", "1", "--runs", "1", "--decode", "4"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  /// The message of a call that must end with `exit_code` before anything is measured.
  static std::string refusal(int exit_code, const std::vector<std::string>& more) {
    const Outcome outcome = restkv_process(arguments(more));
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("restkv: "));  // no progress came first
    return outcome.err;
  }

  static inline std::unique_ptr<TemporaryFolder> suite_folder_;
  static inline std::string tiny_;
  TemporaryFolder folder_;
};

TEST_F(CliBench, MeasuresEveryCombination) {
  const Outcome outcome = restkv_process(
      arguments({"--lengths", "64,200", "--method", "full,snapkv:kernel=7", "--budget", "48,96",
                 "--kv-type", "f16,q8", "--json", folder_.file("b.json"), "--csv",
                 folder_.file("b.csv"), "--svg", folder_.file("b.svg")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("nothing is evicted at budget 96 from 64 tokens"));
  EXPECT_THAT(outcome.out, HasSubstr("limits with 1 thread: sgemm "));
  EXPECT_THAT(outcome.out,
              HasSubstr("\ntokens  method           budget  cache type    read/s  choosing %"));
  EXPECT_THAT(outcome.out, HasSubstr("\n200     full             -       f16 "));
  EXPECT_THAT(outcome.out, HasSubstr("\n200     snapkv:kernel=7  96      q8 "));
  EXPECT_THAT(outcome.out, EndsWith("\nAll: threads 1, sparse dense\n"));
  // Where nothing is chosen, no time of it is shown.
  EXPECT_THAT(outcome.out, ContainsRegex("full +- +f16 +[0-9.]+ +- "));

  const auto json = parse_json(read_file(folder_.file("b.json")));
  const auto& results = json.at("results");
  ASSERT_EQ(results.size(), 2U * 2U * 3U);  // types x lengths x (full, two budgets)
  EXPECT_GT(json.at("limits").at(0).at("read_bytes_per_second").get<double>(), 0);
  const auto read = json.at("limits").at(0).at("read_bytes_per_second").get<double>();
  const auto sgemm = json.at("limits").at(0).at("sgemm_flops_per_second").get<double>();
  for (const auto& r : results) {
    EXPECT_EQ(r.at("runs"), 1);
    EXPECT_GT(r.at("peak_resident_bytes").get<double>(), 1 << 20);
    EXPECT_DOUBLE_EQ(r.at("prefill_share_of_sgemm").get<double>(),
                     r.at("prefill_flops_per_second").get<double>() / sgemm);
    EXPECT_DOUBLE_EQ(r.at("decode_share_of_read_bandwidth").get<double>(),
                     r.at("decode_bytes_per_second").get<double>() / read);
  }
  // f16, 200 tokens: the full cache against 48 and 96 kept rows of each head.
  const auto bytes = [&](size_t i) { return results.at(i).at("kv_bytes").get<size_t>(); };
  EXPECT_EQ(results.at(3).at("prompt_tokens"), 200);
  EXPECT_EQ(bytes(3) * 48, bytes(4) * 200);
  EXPECT_EQ(bytes(3) * 96, bytes(5) * 200);

  const std::string csv = read_file(folder_.file("b.csv"));
  EXPECT_THAT(csv, StartsWith("prompt_tokens,method,budget,kv_type,threads,sparse,runs,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 13);
  const std::string svg = read_file(folder_.file("b.svg"));
  EXPECT_THAT(svg, StartsWith("<svg "));
  EXPECT_THAT(svg, HasSubstr("snapkv:kernel=7, 48 kept, q8"));
  EXPECT_THAT(svg, HasSubstr("Peak memory, MiB"));
}

TEST_F(CliBench, CountsOnlyTheAttentionThatASparsePrefillComputes) {
  const Outcome outcome = restkv_process(arguments(
      {"--lengths", "900", "--method", "full", "--sparse", "dense,a-shape:sinks=64:local=64",
       "--sparse-recall", "--json", folder_.file("b.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto json = parse_json(read_file(folder_.file("b.json")));
  const auto& results = json.at("results");
  ASSERT_EQ(results.size(), 2U);
  const auto work = [&](size_t i) {
    return results.at(i).at("prefill_flops_per_second").get<double>() *
           results.at(i).at("time_to_first_token_seconds").get<double>();
  };
  EXPECT_EQ(results.at(0).at("sparse_density"), 1);
  EXPECT_LT(results.at(1).at("sparse_density").get<double>(), 0.6);
  EXPECT_LT(work(1), work(0));
  EXPECT_EQ(results.at(0).at("sparse_recall"), 1);
  EXPECT_LT(results.at(1).at("sparse_recall").get<double>(), 1);
  EXPECT_GT(results.at(1).at("sparse_recall").get<double>(), 0);
}

TEST_F(CliBench, DecodesAfterSyntheticCachesOfAnyLength) {
  const Outcome outcome = restkv_process(
      arguments({"--synthetic", "--lengths", "5000", "--budget", "64", "--rope-scaling", "linear",
                 "--rope-scale", "5", "--json", folder_.file("b.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto json = parse_json(read_file(folder_.file("b.json")));
  const auto& results = json.at("results");
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results.at(0).at("kv_bytes").get<size_t>() * 64,
            results.at(1).at("kv_bytes").get<size_t>() * 5000);
  EXPECT_GT(results.at(1).at("decode_tokens_per_second").get<double>(), 0);
  EXPECT_FALSE(results.at(1).contains("time_to_first_token_seconds"));  // nothing was read
}

TEST_F(CliBench, RefusesWhatCannotWorkBeforeItMeasures) {
  const std::string processors = std::to_string(std::thread::hardware_concurrency());
  EXPECT_THAT(refusal(2, {"--threads", "0"}),
              HasSubstr("--threads is 0; expected 1 to " + processors));
  EXPECT_THAT(refusal(2, {"--threads", "4096"}), HasSubstr("--threads is 4096"));
  EXPECT_THAT(refusal(2, {"--lengths", "64,2000"}),
              HasSubstr("do not fit into the model's context of 1024 tokens"));
  EXPECT_THAT(refusal(2, {"--lengths", "2000"}), HasSubstr("linear RoPE scaling by 2"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--budget", "0"}), HasSubstr("budget"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--budget", "16"}), HasSubstr("window"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--method", "magic"}), HasSubstr("magic"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--kv-type", "f8"}), HasSubstr("f8"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--sparse", "lace"}), HasSubstr("lace"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--sparse-recall"}), HasSubstr("--sparse"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--rope-scale", "2"}), HasSubstr("--rope-scaling"));
  EXPECT_THAT(refusal(2, {"--lengths", "64", "--synthetic", "--method", "snapkv:allocation=ada"}),
              HasSubstr("fills all heads alike"));
  EXPECT_THAT(refusal(2, {"--lengths", "0"}), HasSubstr("--lengths"));
  EXPECT_THAT(refusal(1, {"--lengths", "64", "--json", folder_.file("no/such/folder/b.json")}),
              HasSubstr("b.json"));
  EXPECT_THAT(refusal(1, {"--lengths", "64", "--text", folder_.file("absent.txt")}),
              HasSubstr("absent.txt"));
  EXPECT_THAT(restkv_process({"bench"}).err, HasSubstr("--model is required"));
  EXPECT_THAT(restkv_process({"bench", "--job"}).err, HasSubstr("only the program itself starts"));
}

/// JSON, in which the processes that measure are told what to do, has no other names.
TEST_F(CliBench, RefusesAModelWhoseNameIsNoUtf8) {
  const std::string model = folder_.file("m\xff.gguf");
  std::filesystem::create_symlink(tiny_, model);
  const Outcome outcome =
      restkv_process({"bench", "-m", model, "-t", "1", "--lengths", "64", "--decode", "4"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("is not UTF-8"));
}

/// Whether some hundredth of the work is done.
bool has_progress(const Outcome& outcome) {
  const size_t last = outcome.err.rfind("measuring: ");
  return last != std::string::npos && std::atoi(outcome.err.c_str() + last + 11) > 0;
}

TEST_F(CliBench, CtrlCKeepsWhatWasMeasured) {
  // Progress is told every few seconds, and what is measured then is up to chance; six of these
  // runs are a hundredth.
  const Outcome outcome = restkv_process(Spawn{
      .arguments = {"bench", "-m", tiny_, "-t", "1", "--runs", "300", "--decode", "4", "--lengths",
                    "64,900", "--method", "full", "--csv", folder_.file("b.csv")},
      .interrupt_when = has_progress});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
  EXPECT_THAT(outcome.out, HasSubstr("\n64      full "));
  EXPECT_THAT(read_file(folder_.file("b.csv")), HasSubstr("\n64,full,"));
}

}  // namespace
}  // namespace restkv
