#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "restkv/threads.h"

namespace restkv {
namespace {

/// A folder with files as the system has them.
class ProcessorsTest : public ::testing::Test {
 protected:
  ~ProcessorsTest() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  [[nodiscard]] int usable() const { return usable_processors(root_.c_str()); }

 private:
  std::filesystem::path root_ =
      std::filesystem::temp_directory_path() / ("restkv-processors-" + std::to_string(getpid()));
};

/// Those of the affinity mask.
int allowed() {
  cpu_set_t mask;
  EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  return CPU_COUNT(&mask);
}

TEST_F(ProcessorsTest, AreThoseOfTheAffinityMask) {
  EXPECT_EQ(usable(), allowed());
  // On a thread of its own, which takes its mask along.
  std::thread([&] {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_COUNT(&mask) > 1) CPU_CLR(i, &mask);
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof mask, &mask), 0);
    EXPECT_EQ(usable(), 1);
    EXPECT_EQ(ThreadPool().threads(), usable_processors()) << "now, not when the program began";
  }).join();
}

TEST_F(ProcessorsTest, AreNoMoreThanAQuotaPaysFor) {
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(usable(), 1);
  write("sys/fs/cgroup/cpu.max", "100001 100000\n");
  EXPECT_EQ(usable(), std::min(allowed(), 2));
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(usable(), allowed());
  // Of a group above the own one, too.
  write("proc/self/cgroup", "0::/jobs/one\n");
  write("sys/fs/cgroup/jobs/cpu.max", "1000 100000\n");
  EXPECT_EQ(usable(), 1);
}

TEST_F(ProcessorsTest, QuotasHaveAnOlderForm) {
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable(), allowed());
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(usable(), 1);
}

}  // namespace
}  // namespace restkv
