#include "cli/byte_count.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "base/parse_number.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

using Unit = std::pair<std::string_view, double>;

/// A number not below 0 in front of one of the units, the first of which is the empty one.
template <size_t n>
size_t parse_with_unit(const std::string& text, const std::array<Unit, n>& units,
                       const std::string& option, std::string_view wanted) {
  constexpr double kMost = 1e15;
  for (const auto& [name, factor] : units) {
    if (!text.ends_with(name)) continue;
    double number = 0;
    if (!parse_number(std::string_view(text).substr(0, text.size() - name.size()), number))
      continue;
    if (number < 0 || number * factor > kMost) break;
    return static_cast<size_t>(number * factor);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is '{}'; expected {}", option, text, wanted));
}

}  // namespace

size_t parse_byte_count(const std::string& text, const std::string& option) {
  constexpr double kKi = 1024;
  constexpr std::array<Unit, 13> kUnits{{{"", 1},
                                         {"KiB", kKi},
                                         {"MiB", kKi * kKi},
                                         {"GiB", kKi * kKi * kKi},
                                         {"TiB", kKi * kKi * kKi * kKi},
                                         {"KB", 1e3},
                                         {"MB", 1e6},
                                         {"GB", 1e9},
                                         {"TB", 1e12},
                                         {"K", kKi},
                                         {"M", kKi * kKi},
                                         {"G", kKi * kKi * kKi},
                                         {"T", kKi * kKi * kKi * kKi}}};
  return parse_with_unit(text, kUnits, option, "bytes, as 8GiB, 512MiB or 1000000000");
}

size_t parse_duration(const std::string& text, const std::string& option) {
  constexpr double kSecond = 1000;
  constexpr std::array<Unit, 4> kUnits{
      {{"", kSecond}, {"ms", 1}, {"s", kSecond}, {"m", 60 * kSecond}}};
  return parse_with_unit(text, kUnits, option, "a time, as 10s, 500ms or 2m");
}

}  // namespace restkv::cli
