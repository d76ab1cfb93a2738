#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

#include "base/control_groups.h"
#include "restkv/threads.h"

namespace restkv {
namespace {

/// Processors in the affinity mask.
int allowed_processors() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::thread::hardware_concurrency());  // more than the mask can hold
}

/// Number of processors that a control group's quota of processor time allows; infinite without
/// one.
double quota(const std::string& folder) {
  double time = 0;
  double period = 0;
  if (std::ifstream file(folder + "/cpu.max"); file >> time >> period) return time / period;
  std::ifstream time_file(folder + "/cpu.cfs_quota_us");  // -1: no quota
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  if (time_file >> time && period_file >> period && time > 0) return time / period;
  return INFINITY;
}

}  // namespace

int usable_processors(const char* root) {
  double usable = std::max(1, allowed_processors());
  for (const std::string& folder : control_groups(root, "cpu")) {
    usable = std::min(usable, std::ceil(quota(folder)));
  }
  return std::max(1, static_cast<int>(usable));
}

}  // namespace restkv
