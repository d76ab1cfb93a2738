#pragma once

#include <string>
#include <string_view>

namespace restkv::cli {

/// What a text is to its reader.
enum class Tone {
  kError,
  kNotice,
  kAside,      ///< What one may skip: figures of a turn.
  kHeading,    ///< Of a help text.
  kPrompt,     ///< Where one types.
  kForgotten,  ///< Text that a cache holds in no head, ...
  kFaint,      ///< ... in few heads,
  kKept,       ///< and in most of them.
};

/// Whether a descriptor is a terminal that shows colours, and nobody has asked for none: NO_COLOR
/// is unset or empty (https://no-color.org), TERM is neither unset nor "dumb".
bool shows_colours(int fd);

/// The text in the colours of its tone. `text` must be printable.
std::string coloured(Tone tone, std::string_view text);
/// The same where the descriptor shows colours; otherwise the text as it is.
std::string coloured_for(int fd, Tone tone, std::string_view text);

}  // namespace restkv::cli
