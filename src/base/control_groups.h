#pragma once

#include <optional>
#include <string>
#include <vector>

namespace restkv {

/// The folders below /sys/fs/cgroup that may limit this process: those of its control group and of
/// all parents up to the root that a container sees. `controller` ("memory", "cpu") selects a tree
/// in version 1, which has one per controller. `root` is the folder of /proc and /sys.
std::vector<std::string> control_groups(const std::string& root, const std::string& controller);

}  // namespace restkv
