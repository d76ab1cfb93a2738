#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
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

TEST_F(FileTest, FollowsALinkToAFileThatIsYetToBe) {
  fs::create_directory(path("folder"));
  fs::create_symlink("folder/real", path("link"));
  fs::create_symlink("link", path("link to it"));
  write_file_atomically(path("link to it"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_TRUE(fs::is_symlink(path("link to it")));
  EXPECT_EQ(read_file(path("folder/real")), "new");
  fs::create_symlink("round", path("round"));
  EXPECT_NE(write_error(path("round"), "x").find("symbolic links"), std::string::npos);
}

TEST_F(FileTest, KeepsPermissions) {
  const auto permissions = [&](const std::string& name) {
    return static_cast<unsigned>(fs::status(path(name)).permissions());
  };
  const mode_t before = ::umask(027);
  write_file_atomically(path("new"), "x");
  ::umask(before);
  EXPECT_EQ(permissions("new"), 0640U);
  for (const unsigned mode : {0600U, 0666U, 0755U}) {
    fs::permissions(path("new"), static_cast<fs::perms>(mode));
    write_file_atomically(path("new"), "y");
    EXPECT_EQ(permissions("new"), mode);
  }
}

/// A name like those of temporary files.
std::string part_name(char digit) { return "restkv-" + std::string(16, digit) + ".part"; }

TEST_F(FileTest, RemovesWhatKilledProcessesLeft) {
  std::ofstream(path(part_name('a'))) << "abandoned";
  std::ofstream(path(part_name('b'))) << "of a writer at work";
  const Descriptor held(::open(path(part_name('b')).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
  std::ofstream(path("victim")) << "precious";
  fs::create_symlink("victim", path(part_name('c')));
  for (const char* other : {"restkv-abc.part", "x.123.part", "restkv-000000000000000g.part"}) {
    std::ofstream(path(other)) << "of somebody else";
  }
  write_file_atomically(path("file"), "x");
  EXPECT_FALSE(fs::exists(path(part_name('a'))));
  EXPECT_TRUE(fs::exists(path(part_name('b'))));
  EXPECT_TRUE(fs::is_symlink(path(part_name('c'))));
  EXPECT_EQ(read_file(path("victim")), "precious");
  EXPECT_EQ(files(), 7U);
}

TEST_F(FileTest, TwoWritersDoNotDisturbEachOther) {
  AtomicFile first(path("a"), 0);
  AtomicFile second(path("a"), 0);
  first.write("first");
  second.write("second");
  write_file_atomically(path("b"), "x");  // looks for abandoned files
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(path("a")), "first");
  EXPECT_EQ(files(), 2U);
}

/// What an attempt to write would say, without anything being written.
std::string writable_error(const std::string& path) {
  try {
    require_writable(path);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
    return e.what();
  }
  return "";
}

TEST_F(FileTest, TriesWithoutChangingAnything) {
  write_file_atomically(path("there"), "old");
  EXPECT_EQ(writable_error(path("there")), "");
  EXPECT_EQ(writable_error(path("new")), "");
  EXPECT_EQ(read_file(path("there")), "old");
  EXPECT_EQ(files(), 1U);
  EXPECT_EQ(writable_error(path("missing/x")), "cannot write " + path("missing/x") +
                                                   ": No such file or directory; make the folder " +
                                                   path("missing") + " first, or choose another");
  EXPECT_NE(writable_error(path("there/x")).find("Not a directory"), std::string::npos);
  EXPECT_NE(writable_error(folder_.string()).find("Is a directory; name a file in it"),
            std::string::npos);
  // Opening a pipe would wait for its reader, and closing it would end what the reader reads.
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(writable_error(path("pipe")), "");
  if (fs::exists("/proc/version")) {
    EXPECT_NE(writable_error("/proc/x"), "");  // no file can be made there, not even by root
  }
}

TEST_F(FileTest, TriesFolders) {
  const auto error = [](const std::string& folder) -> std::string {
    try {
      require_writable_folder(folder);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error(folder_.string()), "");
  EXPECT_EQ(error(path("a/b/c/")), "");
  EXPECT_EQ(files(), 0U);
  write_file_atomically(path("file"), "x");
  EXPECT_NE(error(path("file/run")).find("Not a directory"), std::string::npos);
  EXPECT_NE(error(path("file")).find("Not a directory"), std::string::npos);
  if (fs::exists("/sys/kernel")) {
    EXPECT_NE(error("/sys/kernel/run"), "");
  }
}

TEST_F(FileTest, KnowsTheSameFile) {
  write_file_atomically(path("a"), "x");
  fs::create_hard_link(path("a"), path("hard"));
  fs::create_symlink("a", path("link"));
  EXPECT_TRUE(same_file(path("a"), path("hard")));
  EXPECT_TRUE(same_file(path("link"), folder_.string() + "/./a"));
  EXPECT_FALSE(same_file(path("a"), path("b")));
  EXPECT_TRUE(same_file(path("b"), folder_.string() + "/./b"));
  EXPECT_FALSE(same_file(path("b"), path("c")));
  EXPECT_EQ(first_bytes(path("a"), 4), "x");
  EXPECT_EQ(first_bytes(path("b"), 4), "");
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
