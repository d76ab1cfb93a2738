#pragma once

#include <string>

#include "server/scheduler/status.h"

namespace restkv::server {

/// For Prometheus, in its text format.
std::string metrics_text(const SchedulerStatus& status);

}  // namespace restkv::server
