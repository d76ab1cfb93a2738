#pragma once

#include <string>
#include <string_view>

namespace restkv {

/// `text` as it may be shown. Names, answers and messages can hold what came with a file; a
/// terminal would take some of it for commands, or show it in another order than it stands. Control
/// characters (C0 but for line feeds, tabs and "\r\n"; DEL; C1), directional embeddings, overrides
/// and isolates (U+202A to U+202E, U+2066 to U+2069) and bytes that are not UTF-8 are replaced.
std::string printable(std::string_view text, std::string_view replacement = "?");

}  // namespace restkv
