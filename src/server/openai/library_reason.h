#pragma once

#include <exception>
#include <string>

namespace restkv::server {

/// What libllama-common says of a request that it refuses, as part of a message.
std::string short_reason(const std::exception& e);

}  // namespace restkv::server
