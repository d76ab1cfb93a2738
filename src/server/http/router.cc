#include "server/http/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "restkv/error.h"

namespace restkv::server {
namespace {

constexpr std::string_view kRest = "...";

bool is_name(std::string_view part) { return part.starts_with('{'); }

std::vector<std::string> parts_of(std::string_view pattern) {
  const auto fail = [&](std::string_view reason) {
    return Error(ErrorCode::kInvalidArgument, fmt::format("the route {} {}", pattern, reason));
  };
  if (!pattern.starts_with('/')) throw fail("must begin with \"/\"");
  std::vector<std::string> parts;
  for (std::string_view rest = pattern.substr(1); !rest.empty();) {
    const size_t end = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (part.empty()) throw fail("has an empty segment");
    const bool named = is_name(part);
    if (named != part.ends_with('}') || (named && part.size() < 3)) {
      throw fail("has a segment that is neither a word nor a {name}");
    }
    if (named && part.ends_with("...}") && !rest.empty()) throw fail("goes on behind the rest");
    parts.emplace_back(part);
  }
  return parts;
}

/// What stands for the names in `pattern`; nothing if the path does not fit it.
std::optional<Fields> fit(const std::vector<std::string>& pattern,
                          const std::vector<std::string>& segments) {
  Fields parameters;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (i >= segments.size()) return std::nullopt;
    if (!is_name(pattern[i])) {
      if (pattern[i] != segments[i]) return std::nullopt;
      continue;
    }
    std::string name = pattern[i].substr(1, pattern[i].size() - 2);
    if (name.ends_with(kRest)) {
      name.resize(name.size() - kRest.size());
      parameters.emplace_back(
          std::move(name),
          fmt::format("{}", fmt::join(segments.begin() + static_cast<std::ptrdiff_t>(i),
                                      segments.end(), "/")));
      return parameters;
    }
    parameters.emplace_back(std::move(name), segments[i]);
  }
  if (segments.size() != pattern.size()) return std::nullopt;
  return parameters;
}

}  // namespace

void Router::add(std::string method, std::string_view pattern, Handler handler, Access access) {
  std::vector<std::string> parts = parts_of(pattern);
  if (std::ranges::any_of(routes_, [&](const Route& route) {
        return route.method == method && route.pattern == parts;
      })) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the route {} {} stands there twice", method, pattern));
  }
  routes_.push_back({std::move(method), std::move(parts), std::move(handler), access});
}

Router::Match Router::find(std::string_view method,
                           const std::vector<std::string>& segments) const {
  Match match;
  std::set<std::string> allowed;
  for (const Route& route : routes_) {
    std::optional<Fields> parameters = fit(route.pattern, segments);
    if (!parameters) continue;
    allowed.insert({route.method, "OPTIONS"});
    if (route.method == "GET") allowed.insert("HEAD");
    const bool answers = route.method == method || (method == "HEAD" && route.method == "GET");
    if (!answers || match.handler != nullptr) continue;
    match.handler = &route.handler;
    match.access = route.access;
    match.parameters = std::move(*parameters);
  }
  match.allow = fmt::format("{}", fmt::join(allowed, ", "));
  return match;
}

}  // namespace restkv::server
