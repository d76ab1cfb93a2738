#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iterator>
#include <string>

#include "restkv/error.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "restkv-file-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_ / name).string();
  }
  [[nodiscard]] size_t files() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  /// The message of the Error(kIo) that writing must throw.
  static std::string write_error(const std::string& path, std::string_view content) {
    try {
      write_file_atomically(path, content);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kIo);
      EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no error for " << path;
    return "";
  }

  fs::path folder_;
};

TEST_F(FileTest, WritesAndReplaces) {
  const std::string binary("\0\r\n\xff", 4);
  write_file_atomically(path("a"), binary);
  EXPECT_EQ(read_file(path("a")), binary);
  write_file_atomically(path("a"), "");
  EXPECT_EQ(read_file(path("a")), "");
  const std::string large(1'000'003, 'x');
  write_file_atomically(path("a"), large);
  EXPECT_EQ(read_file(path("a")), large);
  EXPECT_EQ(files(), 1u);
}

TEST_F(FileTest, NamesPathAndReason) {
  EXPECT_NE(write_error(path("missing/a"), "x").find("No such file"), std::string::npos);
  EXPECT_NE(write_error(folder_.string(), "x").find("Is a directory"), std::string::npos);
  EXPECT_EQ(files(), 0u);
}

TEST_F(FileTest, ReportsAFullDevice) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_NE(write_error("/dev/full", "x").find("No space left"), std::string::npos);
  EXPECT_TRUE(fs::is_character_file("/dev/full")) << "the device itself must survive";
}

TEST_F(FileTest, FailureLeavesTheOldFileAndNothingElse) {
  write_file_atomically(path("a"), "old");
  // A limit on the size of files stands for a disk that fills up half-way.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = write_error(path("a"), std::string(100'000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("File too large"), std::string::npos) << message;
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(FileTest, WritesThroughALink) {
  write_file_atomically(path("real"), "old");
  fs::create_symlink("real", path("link"));
  write_file_atomically(path("link"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read_file(path("real")), "new");
}

TEST_F(FileTest, ReadingNamesPathAndReason) {
  for (const std::string& bad : {path("missing"), folder_.string()}) {
    try {
      read_file(bad);
      ADD_FAILURE() << "no error for " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
      EXPECT_NE(std::string(e.what()).find(bad), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace restkv
