#include "server/http/access_log.h"

#include <fmt/format.h>

#include <cmath>

#include "base/json.h"
#include "base/printable.h"

namespace restkv::server {

std::string text_line(const AccessEntry& entry) {
  const std::string request =
      entry.method.empty() ? "-" : printable(entry.method + " " + entry.path);
  return fmt::format("{} \"{}\" {} {} {:.3f}s{}{}{}", entry.peer, request, entry.status,
                     entry.bytes, entry.seconds, entry.id.empty() ? "" : " ", entry.id,
                     entry.cut ? " cut" : "");
}

std::string json_line(const AccessEntry& entry) {
  return Json::object({{"peer", entry.peer},
                       {"method", entry.method},
                       {"path", entry.path},
                       {"id", entry.id},
                       {"status", entry.status},
                       {"bytes", entry.bytes},
                       {"seconds", std::round(entry.seconds * 1e6) / 1e6},
                       {"cut", entry.cut}})
      .dump();
}

}  // namespace restkv::server
