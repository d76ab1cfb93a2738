#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace restkv::server {

/// One server-sent event that has a name.
struct NamedEvent {
  std::string name;
  Json data;
};

/// The events of a stream whose events all have names, which are also the "type" of their data.
inline std::vector<NamedEvent> named_events(std::string_view stream) {
  std::vector<NamedEvent> events;
  while (!stream.empty()) {
    const size_t line = stream.find('\n');
    const size_t end = stream.find("\n\n");
    const std::string_view first = stream.substr(0, line);
    const std::string_view second = stream.substr(line + 1, end - line - 1);
    if (end == std::string_view::npos || !first.starts_with("event: ") ||
        !second.starts_with("data: ")) {
      ADD_FAILURE() << "no event: " << stream;
      return events;
    }
    EXPECT_EQ(second.find('\n'), std::string_view::npos);
    events.push_back({std::string(first.substr(7)), parse_json(second.substr(6))});
    EXPECT_EQ(events.back().data.at("type"), events.back().name);
    stream.remove_prefix(end + 2);
  }
  return events;
}

}  // namespace restkv::server
