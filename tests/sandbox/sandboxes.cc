#include "sandbox/sandboxes.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace restkv::test {

namespace fs = std::filesystem;
using eval::MissingLayer;
using eval::Sandbox;
using eval::SandboxLimits;
using eval::SandboxResult;

const Sandbox& full_sandbox() {
  static const Sandbox kSandbox;
  return kSandbox;
}

const Sandbox& sandbox_without_filter() {
  static const Sandbox kSandbox(kNoFilter);
  return kSandbox;
}

const Sandbox& sandbox_without_namespaces() {
  static const Sandbox kSandbox(kNoNamespaces);
  return kSandbox;
}

const Sandbox& sandbox_without_layers() {
  static const Sandbox kSandbox(kNoLayers);
  return kSandbox;
}

std::string reasons(const Sandbox& sandbox) {
  std::string all;
  for (const MissingLayer& missing : sandbox.missing()) all += missing.sentence + "; ";
  return all;
}

std::string failure(const Sandbox& sandbox, const std::string& program,
                    const SandboxLimits& limits) {
  const SandboxResult result = sandbox.run(program, limits);
  EXPECT_EQ(result.outcome, SandboxResult::Outcome::kFailed) << program;
  return result.message;
}

void expect_pass(const Sandbox& sandbox, const std::string& program) {
  const SandboxResult result = sandbox.run(program, kPatient);
  EXPECT_TRUE(result.passed()) << result.message << "\n" << program << "\n" << reasons(sandbox);
  EXPECT_EQ(result.message == "passed", result.passed());
}

std::string process_name() {
  static const std::string kName = fmt::format("bomb{}", getpid());  // not that of a child
  return kName;
}

std::string take_process_name() {
  return fmt::format("import ctypes; ctypes.CDLL(None).prctl({}, b'{}')\n", PR_SET_NAME,
                     process_name());
}

std::vector<std::pair<pid_t, pid_t>> processes_of_that_name() {
  std::vector<std::pair<pid_t, pid_t>> found;
  std::error_code ended;
  for (fs::directory_iterator entry("/proc", ended), end; !ended && entry != end;
       entry.increment(ended)) {
    std::ifstream file(entry->path() / "status");
    std::string line;
    if (!std::getline(file, line) || line != "Name:\t" + process_name()) continue;
    char state = 'X';
    pid_t pid = 0;
    pid_t parent = 0;
    while (std::getline(file, line)) {
      std::istringstream field(line);
      std::string key;
      field >> key;
      if (key == "State:") field >> state;
      if (key == "Pid:") field >> pid;
      if (key == "PPid:") field >> parent;
    }
    if (state != 'Z' && state != 'X') found.emplace_back(pid, parent);
  }
  return found;
}

bool processes_become(size_t number) {
  for (int tries = 0; tries < 500; ++tries) {
    if (processes_of_that_name().size() == number) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

Child::Child(const std::function<std::string()>& function) {
  (void)process_name();
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) throw std::runtime_error("pipe");
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ends[0]);
    std::string said;
    try {
      said = function();
    } catch (const std::exception& error) {
      said = error.what();
    }
    [[maybe_unused]] const ssize_t written = write(ends[1], said.data(), said.size());
    _exit(0);
  }
  close(ends[1]);
  pipe_ = ends[0];
}

Child::~Child() {
  if (pid_ > 0) kill();
  close(pipe_);
}

std::string Child::said() {
  std::string all;
  std::array<char, 4096> block;
  for (ssize_t n = 0; (n = read(pipe_, block.data(), block.size())) > 0;) {
    all.append(block.data(), static_cast<size_t>(n));
  }
  return all;
}

void Child::kill() {
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void become_ordinary_user() {
  constexpr uid_t kSomebody = 61357;  // not the one that the sandbox makes of root
  if (setregid(kSomebody, kSomebody) != 0 || setreuid(kSomebody, kSomebody) != 0) return;
  prctl(PR_SET_DUMPABLE, 1);  // as in a process that was started by that user
}

bool lose_user_namespaces() {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (unshare(CLONE_NEWUSER) != 0) return true;  // there are none to lose
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << fmt::format("{} {} 1", user, user);
  std::ofstream("/proc/self/gid_map") << fmt::format("{} {} 1", group, group);
  std::ofstream("/proc/sys/user/max_user_namespaces") << 0;
  if (unshare(CLONE_NEWUSER) == 0) return false;
  // The rights in the new namespace, which an ordinary user has not.
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  syscall(SYS_capset, &header, none.data());
  prctl(PR_SET_DUMPABLE, 1);
  return true;
}

}  // namespace restkv::test
