#pragma once

#include <exception>
#include <functional>
#include <string>

#include "server/http/http_error.h"

namespace restkv::server {

/// Whatever was thrown, as an answer. What the client must not read goes to `error_log`.
HttpError refusal_of(const std::exception_ptr& thrown,
                     const std::function<void(const std::string&)>& error_log);

}  // namespace restkv::server
