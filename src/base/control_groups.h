#pragma once

#include <optional>
#include <string>
#include <vector>

namespace restkv {

/// The folders below /sys/fs/cgroup that may limit this process: of its own control group and of
/// those above it, up to what a container sees as the root. `controller` ("memory", "cpu") matters
/// where each has a tree of its own (version 1). `root` is where /proc and /sys are.
std::vector<std::string> control_groups(const std::string& root, const std::string& controller);

}  // namespace restkv
