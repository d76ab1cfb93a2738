#pragma once

#include <string>

namespace restkv::cli {

/// Lets whoever sits at the terminal change a text in the editor that $VISUAL, $EDITOR or else vi
/// names. Throws `Error` (kIo) if it cannot be started or ends with an error.
std::string edited(const std::string& text);

}  // namespace restkv::cli
