// What `restkv run` takes from a standard input that nobody named.
#include "cli/standard_input.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>
#include <thread>

#include "cli/cli_test.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

using std::chrono::milliseconds;

constexpr Patience kShort{.until_notice = milliseconds(1), .until_refusal = milliseconds(20)};

/// Two descriptors, what is written into the second comes out of the first.
struct Ends {
  std::array<int, 2> fds{-1, -1};
  ~Ends() {
    close(fds[0]);
    close_write();
  }
  void close_write() {
    if (fds[1] >= 0) close(std::exchange(fds[1], -1));
  }
  void write(std::string_view text) const {
    ASSERT_EQ(::write(fds[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
};

class PipesAndSockets : public ::testing::TestWithParam<bool> {
 protected:
  PipesAndSockets() {
    const int made = GetParam() ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.fds.data())
                                : pipe2(ends_.fds.data(), O_CLOEXEC);
    EXPECT_EQ(made, 0);
  }
  [[nodiscard]] int fd() const { return ends_.fds[0]; }
  Ends ends_;
};

TEST_P(PipesAndSockets, AreReadToTheirEnd) {
  ends_.write("first ");
  std::thread writer([&] {
    std::this_thread::sleep_for(milliseconds(50));  // longer than the patience for the first byte
    ends_.write("second");
    ends_.close_write();
  });
  EXPECT_EQ(read_if_piped(fd(), kShort), "first second");
  writer.join();
}

TEST_P(PipesAndSockets, AreNothingWhenClosed) {
  ends_.close_write();
  EXPECT_EQ(read_if_piped(fd(), kShort), "");
}

TEST_P(PipesAndSockets, AreRefusedWhenSilent) {
  try {
    read_if_piped(fd(), kShort);
    ADD_FAILURE() << "it is still open";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("nothing has come in 0.02 s"));
    EXPECT_THAT(error.what(), HasSubstr("-f - to wait"));
    EXPECT_THAT(error.what(), HasSubstr("< /dev/null"));
  }
}

TEST_P(PipesAndSockets, MayBeNonBlocking) {
  fcntl(fd(), F_SETFL, O_NONBLOCK);
  ends_.write("text");
  std::thread writer([&] {
    std::this_thread::sleep_for(milliseconds(50));
    ends_.close_write();
  });
  EXPECT_EQ(read_if_piped(fd(), kShort), "text");
  writer.join();
}

INSTANTIATE_TEST_SUITE_P(StandardInput, PipesAndSockets, ::testing::Bool());

TEST(StandardInput, AFileIsReadUnlessSomebodyHasBegunTo) {
  const TemporaryFolder folder;
  const std::string path = folder.file("lines.txt");
  std::ofstream(path) << "one\ntwo\n";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(read_if_piped(fd, kShort), "one\ntwo\n");
  EXPECT_EQ(read_if_piped(fd, kShort), "");  // at its end
  ASSERT_EQ(lseek(fd, 4, SEEK_SET), 4);      // as after `read line` in a shell's loop
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(read_if_piped(fd, kShort), "");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("is left out: another program"));
  close(fd);
}

TEST(StandardInput, DevicesAndClosedDescriptorsHaveNothing) {
  const int null = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(null, 0);
  EXPECT_EQ(read_if_piped(null, kShort), "");
  close(null);
  EXPECT_EQ(read_if_piped(null, kShort), "");
}

}  // namespace
}  // namespace restkv::cli
