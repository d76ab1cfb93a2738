#pragma once

#include <cstdint>
#include <string>

#include "base/descriptor.h"

namespace restkv::server {

struct Listening {
  Descriptor socket;  ///< Non-blocking.
  bool ipv6 = false;
  bool loopback = false;
  uint16_t port = 0;  ///< The actual one.
};

/// Listens at an address (`port` 0: any that is free). Throws `Error`: kInvalidArgument for a host
/// that is none, kIo where the system refuses, naming the address and the remedy.
Listening listen_at(const std::string& host, uint16_t port);

/// "127.0.0.1:8080", "[::1]:8080"
std::string address_text(const std::string& host, uint16_t port);

}  // namespace restkv::server
