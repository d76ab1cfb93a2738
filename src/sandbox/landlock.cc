#include "sandbox/landlock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "restkv/error.h"

namespace restkv::eval {
namespace {

// Newer than the headers of Debian 12.
constexpr uint64_t kTruncate = 1U << 14U;     // LANDLOCK_ACCESS_FS_TRUNCATE
constexpr uint64_t kDeviceIoctl = 1U << 15U;  // LANDLOCK_ACCESS_FS_IOCTL_DEV
constexpr uint64_t kTcp = 3;                  // LANDLOCK_ACCESS_NET_{BIND,CONNECT}_TCP
constexpr uint64_t kScopes = 3;               // LANDLOCK_SCOPE_{ABSTRACT_UNIX_SOCKET,SIGNAL}

/// landlock_ruleset_attr. Older kernels take it as long as the fields that they do not know are 0.
struct RulesetAttributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

}  // namespace

uint64_t LandlockRights::read_only() const {
  return files &
         (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
}

uint64_t LandlockRights::device() const {
  return files & (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate);
}

LandlockRights landlock_rights() {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 0) {
    throw Error(ErrorCode::kUnsupported,
                errno == EOPNOTSUPP
                    ? "Landlock is switched off; add it to the kernel's lsm= boot parameter"
                    : fmt::format("landlock_create_ruleset: {}", std::strerror(errno)));
  }
  LandlockRights rights;
  rights.files = LANDLOCK_ACCESS_FS_REFER - 1;
  if (version >= 2) rights.files |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) rights.files |= kTruncate;
  if (version >= 4) rights.network = kTcp;
  if (version >= 5) rights.files |= kDeviceIoctl;
  if (version >= 6) rights.scopes = kScopes;
  return rights;
}

int make_landlock_rules(const LandlockRights& rights) {
  const RulesetAttributes attributes{rights.files, rights.network, rights.scopes};
  return static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
}

long add_landlock_rule(int rules, const char* path, uint64_t rights) {
  landlock_path_beneath_attr beneath{};
  beneath.allowed_access = rights;
  beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
  if (beneath.parent_fd < 0) return -1;
  const long added = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
  close(beneath.parent_fd);
  return added;
}

long obey_landlock_rules(int rules) {
  const long result = syscall(SYS_landlock_restrict_self, rules, 0);
  close(rules);
  return result;
}

}  // namespace restkv::eval
