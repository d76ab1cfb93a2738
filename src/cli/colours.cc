#include "cli/colours.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace restkv::cli {
namespace {

/// Parameters of SGR (ECMA-48). The colours are those of the terminal's own palette, which its
/// owner has made legible.
std::string_view parameters_of(Tone tone) {
  switch (tone) {
    case Tone::kError:
      return "1;31";
    case Tone::kNotice:
      return "33";
    case Tone::kAside:
    case Tone::kForgotten:
      return "2";
    case Tone::kHeading:
    case Tone::kPrompt:
      return "1";
    case Tone::kFaint:
      return "36";
    case Tone::kKept:
      return "1;36";
  }
  return "0";
}

}  // namespace

bool shows_colours(int fd) {
  const char* const none = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return (none == nullptr || *none == '\0') && terminal != nullptr && *terminal != '\0' &&
         std::string_view(terminal) != "dumb" && ::isatty(fd) == 1;
}

std::string coloured(Tone tone, std::string_view text) {
  return fmt::format("\x1b[{}m{}\x1b[0m", parameters_of(tone), text);
}

std::string coloured_for(int fd, Tone tone, std::string_view text) {
  return shows_colours(fd) ? coloured(tone, text) : std::string(text);
}

}  // namespace restkv::cli
