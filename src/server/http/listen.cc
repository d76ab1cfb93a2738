#include "server/http/listen.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "restkv/error.h"

namespace restkv::server {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("cannot listen at host \"{}\": {}; give an address of this machine, for "
                    "instance 127.0.0.1 (this machine only) or 0.0.0.0 (everybody)",
                    host, gai_strerror(error)));
  }
  return Addresses(list);
}

std::string remedy(int error, uint16_t port) {
  switch (error) {
    case EADDRINUSE:
      return "another program listens there; stop it or choose another port (0: any that is free)";
    case EACCES:
      return fmt::format(
          "choose a port from 1024 on instead of {}, or let this program have the "
          "capability CAP_NET_BIND_SERVICE",
          port);
    case EADDRNOTAVAIL:
      return "this machine does not have that address; give one of its own, or 0.0.0.0 for all";
    default:
      return "choose another host or port";
  }
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address, sizeof v6);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
}

uint16_t port_of(const sockaddr_storage& address) {
  // At the same place for both families.
  sockaddr_in v4{};
  std::memcpy(&v4, &address, sizeof v4);
  return ntohs(v4.sin_port);
}

/// -1, with `errno`, if it does not work.
Descriptor try_listen(const addrinfo& at) {
  Descriptor fd(
      ::socket(at.ai_family, at.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at.ai_protocol));
  const int yes = 1;
  const bool fine = fd && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                    ::bind(fd.get(), at.ai_addr, at.ai_addrlen) == 0 &&
                    ::listen(fd.get(), SOMAXCONN) == 0;
  if (!fine) {
    const int error = errno;
    fd.close();
    errno = error;
  }
  return fd;
}

}  // namespace

Listening listen_at(const std::string& host, uint16_t port) {
  const Addresses addresses = resolve(host, port);
  int error = EADDRNOTAVAIL;
  // A name may have both: clients that know one try IPv4 first.
  for (const int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
      if (at->ai_family != family) continue;
      Listening result{.socket = try_listen(*at), .ipv6 = family == AF_INET6};
      sockaddr_storage bound{};
      socklen_t size = sizeof bound;
      if (!result.socket ||
          getsockname(result.socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
        error = errno;
        continue;
      }
      result.loopback = is_loopback(bound);
      result.port = port_of(bound);
      return result;
    }
  }
  throw Error(ErrorCode::kIo, fmt::format("cannot listen at {}: {}; {}", address_text(host, port),
                                          std::strerror(error), remedy(error, port)));
}

std::string address_text(const std::string& host, uint16_t port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

}  // namespace restkv::server
