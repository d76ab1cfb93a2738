#pragma once

#include <cstddef>

#include "restkv/engine.h"
#include "server/scheduler/scheduler.h"

/// What is refused before it waits.
namespace restkv::server {

/// Throws `Error` (kInvalidArgument) naming an option that cannot be used.
void check_options(const Model& model, const SchedulerOptions& options);

/// Throws `Error` (kInvalidArgument): what a request must not have, does not fit into the context
/// or, with both figures, never into memory. `session`: its options; `before`: tokens of its
/// document. `is_document`: nothing is to be written.
void check_request(const Engine& engine, const SchedulerOptions& options, const Request& request,
                   const SessionOptions& session, size_t before, bool is_document,
                   size_t memory_limit);

}  // namespace restkv::server
