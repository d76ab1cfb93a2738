#include "server/http/request_id.h"

#include <fmt/format.h>

#include <cstddef>
#include <random>
#include <string_view>

namespace restkv::server {
namespace {

constexpr size_t kMostBytes = 128;

bool is_sane(std::string_view id) {
  constexpr std::string_view kAllowed =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:";
  return !id.empty() && id.size() <= kMostBytes &&
         id.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace

std::string make_request_id() {
  std::random_device device;
  return fmt::format("req-{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

std::string request_id_of(const Headers& headers) {
  const std::string_view given = headers.value(kRequestIdField);
  return is_sane(given) ? std::string(given) : make_request_id();
}

}  // namespace restkv::server
