#include "base/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

namespace restkv {
namespace {

/// A folder with files as the system has them.
class MemoryTest : public ::testing::Test {
 protected:
  ~MemoryTest() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  [[nodiscard]] size_t available() const { return available_memory(root_.string()); }

 private:
  std::filesystem::path root_ =
      std::filesystem::temp_directory_path() / ("restkv-memory-" + std::to_string(getpid()));
};

TEST_F(MemoryTest, IsNotLimitedWhereTheSystemSaysNothing) { EXPECT_EQ(available(), SIZE_MAX); }

TEST_F(MemoryTest, IsWhatTheMachineHas) {
  write("proc/meminfo", "MemTotal:       24684156 kB\nMemFree: 7 kB\nMemAvailable:   1000 kB\n");
  EXPECT_EQ(available(), 1024000U);
}

TEST_F(MemoryTest, IsWhatAContainerMayHave) {
  write("proc/meminfo", "MemAvailable:   1000 kB\n");
  write("sys/fs/cgroup/memory.max", "500000\n");
  write("sys/fs/cgroup/memory.current", "450000\n");
  EXPECT_EQ(available(), 50000U);
  // What files have been read into can be given up.
  write("sys/fs/cgroup/memory.stat", "anon 400000\nfile 50000\ninactive_file 30000\n");
  EXPECT_EQ(available(), 80000U);
  write("sys/fs/cgroup/memory.current", "600000\n");
  EXPECT_EQ(available(), 0U);
  write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(available(), 1024000U);
}

TEST_F(MemoryTest, ReadsTheOlderFormOfLimits) {
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(available(), 9223372036854770712U);
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000\n");
  EXPECT_EQ(available(), 2000U);
}

TEST_F(MemoryTest, IsWhatTheOwnGroupAndThoseAboveItMayHave) {
  write("proc/meminfo", "MemAvailable:   1000 kB\n");
  write("proc/self/cgroup", "0::/user.slice/session.scope\n");
  write("sys/fs/cgroup/user.slice/session.scope/memory.max", "max\n");
  write("sys/fs/cgroup/user.slice/session.scope/memory.current", "100\n");
  write("sys/fs/cgroup/user.slice/memory.max", "5000\n");
  write("sys/fs/cgroup/user.slice/memory.current", "100\n");
  EXPECT_EQ(available(), 4900U);
  write("proc/self/cgroup", "7:cpu,cpuacct:/other\n5:memory:/batch/job\n");
  write("sys/fs/cgroup/memory/batch/job/memory.limit_in_bytes", "700\n");
  write("sys/fs/cgroup/memory/batch/job/memory.usage_in_bytes", "100\n");
  EXPECT_EQ(available(), 600U);
}

TEST(Memory, OfThisMachineIsLimited) {
  const auto all =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  EXPECT_GT(available_memory(), 0U);
  EXPECT_LE(available_memory(), all);
}

}  // namespace
}  // namespace restkv
