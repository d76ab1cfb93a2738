// Processes that mpirun starts together: what each of them checks (ranks.cc), and `restkv run` and
// `restkv eval` as several processes.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/cli_test.h"
#include "cli/eval_samples.h"
#include "model/communicator.h"

namespace restkv {
namespace {

using ::testing::ContainsRegex;

/// Whether `mpirun` is in one of the folders of PATH.
bool has_mpirun() {
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "";
  for (size_t at = 0; at <= folders.size();) {
    const size_t end = std::min(folders.find(':', at), folders.size());
    if (::access((folders.substr(at, end - at) + "/mpirun").c_str(), X_OK) == 0) return true;
    at = end + 1;
  }
  return false;
}

class Cluster : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RESTKV_HAS_MPI == 0) GTEST_SKIP() << "built without MPI (script/bootstrap --with-mpi)";
    if (!has_mpirun()) GTEST_SKIP() << "there is no mpirun (openmpi-bin)";
  }

  /// `shell`: how each process starts its program, "$@"; $OMPI_COMM_WORLD_RANK is its number.
  static Spawn with(size_t processes, std::vector<std::string> arguments,
                    const std::string& shell = "exec \"$@\"") {
    return {.arguments = std::move(arguments),
            .through = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n",
                        std::to_string(processes), "sh", "-c", shell, "sh"},
            .environment = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                            // containers forbid it, which OpenMPI complains about at length
                            "OMPI_MCA_btl_vader_single_copy_mechanism=none",
                            // tests run beside others
                            "OMPI_MCA_mpi_yield_when_idle=1"}};
  }
};

TEST(Share, CoversEverythingOnceByWholeUnits) {
  for (const size_t count : {1, 3, 9, 64, 1537}) {
    for (const size_t unit : {1, 32}) {
      for (size_t ranks = 1; ranks <= 5; ++ranks) {
        size_t end = 0;
        size_t least = count;
        size_t most = 0;
        for (size_t rank = 0; rank < ranks; ++rank) {
          const Range own = share(count, unit, rank, ranks);
          EXPECT_EQ(own.begin, end);
          EXPECT_TRUE(own.begin % unit == 0 || own.count == 0);
          least = std::min(least, own.count);
          most = std::max(most, own.count);
          end = own.end();
        }
        EXPECT_EQ(end, count);
        EXPECT_LT(most - least, 2 * unit) << count << " by " << unit << " for " << ranks;
      }
    }
  }
}

class RanksOf : public Cluster, public ::testing::WithParamInterface<size_t> {};

TEST_P(RanksOf, AgreeWithOneProcess) {
  const Outcome outcome =
      restkv_process(with(GetParam(), {}, "exec \"" RESTKV_CLUSTER_RANKS "\" --gtest_brief=1"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("PASSED"));
}
INSTANTIATE_TEST_SUITE_P(Processes, RanksOf, ::testing::Values(2, 3, 4));

class ClusterRun : public Cluster {
 protected:
  ClusterRun() {
    TinyModel model = chat_model();
    model.type = GGML_TYPE_F32;
    model.width = 96;
    model.query_heads = 6;
    model.kv_heads = 3;
    model.write(model_);
  }
  [[nodiscard]] std::vector<std::string> arguments(const std::vector<std::string>& more = {
                                                       "-n", "40"}) const {
    std::string prompt;
    for (size_t w = 0; w < 200; ++w) prompt += fmt::format("{} ", w * 7919 % 997);
    std::vector<std::string> list{
        "run",         "-m",  model_,      "-p",  prompt,     "--linear", "f32",
        "--attention", "f32", "--kv-type", "f32", "--budget", "64",       "--decode-interval",
        "8",           "-t",  "1"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  [[nodiscard]] std::vector<std::string> endless() const {
    return arguments({"-n", "1000000", "--positions", "compact"});
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
};

TEST_F(ClusterRun, AnswersAsOneProcess) {
  const Outcome one = restkv_process(arguments());
  ASSERT_EQ(one.exit_code, 0) << one.err;
  ASSERT_NE(one.out, "");
  for (const size_t processes : {2, 3}) {
    const Outcome outcome = restkv_process(with(processes, arguments()));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, one.out);
    // Rank 0 alone speaks.
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), std::ranges::count(one.err, '\n'))
        << outcome.err;
  }
}

TEST_F(ClusterRun, ReadsStandardInputOnce) {
  std::vector<std::string> from_input{"run", "-m", model_, "-n", "5", "-t", "1"};
  Spawn shared = with(2, from_input);
  Spawn alone{.arguments = from_input};
  shared.input = alone.input = "What is the capital of France?";
  const Outcome expected = restkv_process(alone);
  const Outcome outcome = restkv_process(shared);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, expected.out);
}

TEST_F(ClusterRun, RefusesWhatCannotBeShared) {
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    const char* message;
  };
  for (const Case& refused :
       {Case{arguments({"--method", "tova"}), 1, "method tova looks at all heads of a layer"},
        {arguments({"--allocation", "ada"}), 1, "allocation ada looks at all heads of a layer"},
        {arguments({"--save-cache", folder_.file("saved")}), 1,
         "--save-cache is for one process, and 2 were started"},
        {{"chat", "-m", model_}, 1, "restkv chat is for one process, and 2 were started"}}) {
    const Outcome outcome = restkv_process(with(2, refused.arguments));
    EXPECT_EQ(outcome.exit_code, refused.exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(refused.message));
    EXPECT_EQ(outcome.out, "");
  }
  const Outcome outcome = restkv_process(with(4, arguments()));
  EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("has 3 KV heads, too few for 4 processes; start 3 at most"));
}

TEST_F(ClusterRun, RefusesOtherAndMissingFiles) {
  TinyModel other = chat_model();
  other.type = GGML_TYPE_F32;
  other.width = 96;
  other.query_heads = 6;
  other.kv_heads = 3;
  other.seed = 2;
  const std::string path = folder_.file("other.gguf");
  other.write(path);
  // One of the processes has the other file, or none, in the place of the model.
  const auto only = [&](const std::string& file) {
    return fmt::format(
        "test $OMPI_COMM_WORLD_RANK = 1 && exec \"$1\" run -m '{}' -t 1\nexec \"$@\"", file);
  };
  Outcome outcome = restkv_process(with(3, arguments(), only(path)));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, ContainsRegex("rank 1 on .* has something else than rank 0"));
  outcome = restkv_process(with(3, arguments(), only(folder_.file("missing.gguf"))));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, ContainsRegex("rank 1 on .*missing.gguf"));
}

TEST_F(ClusterRun, EndsWhenAProcessDies) {
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = restkv_process(with(
      2, endless(), "test $OMPI_COMM_WORLD_RANK = 1 && { (sleep 2; kill -9 $$) & }\nexec \"$@\""));
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, ContainsRegex("rank 1 .* on node .* exited on signal 9"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(12));
}

TEST_F(ClusterRun, CtrlCReachesAll) {
  Spawn spawn = with(2, endless());
  std::chrono::steady_clock::time_point pressed;
  spawn.interrupt_when = [&](const Outcome& said) {
    pressed = std::chrono::steady_clock::now();
    return said.out.size() > 10;
  };
  const Outcome outcome = restkv_process(spawn);
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - pressed, std::chrono::seconds(10));
}

TEST_F(Cluster, IsNotNeededByAProcessThatIsAlone) {
  const Outcome outcome = restkv_process(with(1, {"--version"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
}

TEST(ClusterWithoutMpi, NamesWhatIsMissing) {
  // Where MPI is not installed, its module cannot be loaded; here it is no library at all.
  const TemporaryFolder folder;
  std::ofstream(folder.file("librestkv_mpi.so")) << "none";
  const Outcome outcome = restkv_process(Spawn{
      .arguments = {"methods"},
      .environment = {"OMPI_COMM_WORLD_SIZE=2", "LD_LIBRARY_PATH=" + folder.path().string()}});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("install libopenmpi-dev and openmpi-bin"));
  EXPECT_EQ(outcome.out, "");
}

class ClusterEval : public Cluster {
 protected:
  static constexpr size_t kSamples = 9;

  ClusterEval() {
    chat_model().write(model_);
    write_samples(data_, kSamples, 20);
  }
  [[nodiscard]] std::vector<std::string> arguments(const std::string& run) const {
    return {"eval",   "prompts",  "-m", model_, "--data", data_, "--method",
            "snapkv", "--budget", "48", "-t",   "1",      "-o",  run};
  }
  TemporaryFolder folder_;
  std::string model_ = folder_.file("model.gguf");
  std::string data_ = folder_.file("data.jsonl");
};

TEST_F(ClusterEval, SharesSamplesAndGoesOnWithOthers) {
  const std::string alone = folder_.file("alone");
  ASSERT_EQ(restkv_process(arguments(alone)).exit_code, 0);
  const std::string shared = folder_.file("shared");
  const Outcome outcome = restkv_process(with(3, arguments(shared)));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("9 samples in"));
  EXPECT_EQ(results_of_run(shared), results_of_run(alone));
  EXPECT_TRUE(std::filesystem::exists(shared + "/results.jsonl"));

  // Half of the lines are lost; two processes make them again.
  std::ifstream file(shared + "/results.jsonl");
  std::string kept;
  std::string line;
  for (size_t i = 0; i < kSamples / 2 && std::getline(file, line); ++i) kept += line + '\n';
  std::ofstream(shared + "/results.jsonl") << kept;
  const Outcome again = restkv_process(with(2, arguments(shared)));
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("4 of them from before"));
  EXPECT_EQ(results_of_run(shared), results_of_run(alone));
}

}  // namespace
}  // namespace restkv
