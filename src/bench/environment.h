#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "restkv/model.h"

/// Environment of measurements, stored with the figures.
namespace restkv::bench {

/// Load average of the last minute; 0 if unknown.
double load_average();
/// Warns on standard error if the machine is busy: figures are then unreliable.
void warn_if_busy(double load, std::string_view program);

/// "2026-11-22T17:00:00Z"
std::string utc_time();
/// `description` is the processor's name, `load_before` the load average before the measurements.
Json describe_machine(std::string_view description, double load_before);
Json describe_software();
Json describe_model(const ModelConfig& config);

}  // namespace restkv::bench
