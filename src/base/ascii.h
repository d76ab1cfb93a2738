#pragma once

#include <string>
#include <string_view>

namespace restkv {

/// The text with the small letters of ASCII in place of the large ones; other bytes stay.
std::string lower_case(std::string_view text);

}  // namespace restkv
