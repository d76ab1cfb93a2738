#pragma once

#include <string>
#include <string_view>

namespace restkv {

/// `text` made safe for a terminal. Names, answers and messages may hold text from files that a
/// terminal would execute or reorder. Control characters (C0 but for line feeds, tabs and "\r\n";
/// DEL; C1), directional embeddings, overrides and isolates (U+202A to U+202E, U+2066 to U+2069)
/// and bytes that are not UTF-8 are replaced.
std::string printable(std::string_view text, std::string_view replacement = "?");

}  // namespace restkv
