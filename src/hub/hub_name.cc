#include "hub/hub_name.h"

#include <fmt/format.h>

#include <algorithm>

#include "restkv/error.h"

namespace restkv::hub {
namespace {

constexpr std::string_view kScheme = "hf:";
constexpr size_t kMostNameBytes = 96;  // the hub's own limit
constexpr size_t kMostPathBytes = 1024;
constexpr size_t kMostPartBytes = 200;  // leaves room for what is added to names of files

bool is_word(std::string_view text) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.size() <= kMostNameBytes && text.front() != '.' &&
         std::ranges::all_of(text, is_allowed);
}

}  // namespace

std::string HubName::place() const { return owner + "/" + repository; }

std::string HubName::text() const {
  return fmt::format("{}{}{}{}", kScheme, place(), which.empty() ? "" : ":", which);
}

bool HubName::names_file() const { return which.ends_with(kModelEnding); }

bool is_hub_name(std::string_view text) { return text.starts_with(kScheme); }

HubName parse_hub_name(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{:.200} {}; expected a name like hf:owner/repository, "
                            "hf:owner/repository:Q4_K_M or hf:owner/repository:model.gguf",
                            text, why));
  };
  if (!is_hub_name(text)) refuse("does not begin with hf:");
  const std::string_view rest = text.substr(kScheme.size());
  const size_t colon = rest.find(':');
  const std::string_view place = rest.substr(0, colon);
  const size_t slash = place.find('/');
  if (slash == std::string_view::npos) refuse("names no owner and repository");
  HubName name{.owner = std::string(place.substr(0, slash)),
               .repository = std::string(place.substr(slash + 1)),
               .which = {}};
  if (!is_word(name.owner) || !is_word(name.repository)) {
    refuse("is no name: owner and repository are letters, digits, '-', '_' and '.'");
  }
  if (colon == std::string_view::npos) return name;
  name.which = rest.substr(colon + 1);
  if (name.which.empty()) refuse("ends with a colon");
  if (name.names_file() ? !is_safe_path(name.which) : !is_word(name.which)) {
    refuse("has neither a quantisation nor a .gguf file behind the colon");
  }
  return name;
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > kMostPathBytes) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    const auto is_allowed = [](char c) { return c >= ' ' && c <= '~' && c != '\\'; };
    if (part.empty() || part.size() > kMostPartBytes || part.front() == '.' ||
        !std::ranges::all_of(part, is_allowed)) {
      return false;
    }
    begin = end + 1;
  }
  return true;
}

}  // namespace restkv::hub
