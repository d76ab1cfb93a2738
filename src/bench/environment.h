#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "restkv/model.h"

/// Where figures come from, for the files that hold them.
namespace restkv::bench {

/// Of the last minute; 0 if the system does not tell.
double load_average();
/// Says on standard error that figures of a busy machine mean little, if it is one.
void warn_if_busy(double load, std::string_view program);

/// "2026-11-22T17:00:00Z"
std::string utc_time();
/// `description`: the processor's name. `load_before`: when measuring began.
Json describe_machine(std::string_view description, double load_before);
Json describe_software();
Json describe_model(const ModelConfig& config);

}  // namespace restkv::bench
