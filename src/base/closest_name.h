#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace restkv {

/// Whether two names are the same but for the case of ASCII letters and for "_" in place of "-".
bool same_name(std::string_view a, std::string_view b);

/// What somebody who typed `text` probably meant: the name that fewest typing errors (a letter too
/// much, one missing, a wrong one, two swapped) would turn into it, or the only one that it is the
/// beginning of. None: nothing is near.
std::optional<std::string> closest_name(std::string_view text,
                                        std::span<const std::string_view> names);

/// " (did you mean NAME?)"; empty if nothing is near.
std::string did_you_mean(std::string_view text, std::span<const std::string_view> names);

}  // namespace restkv
