#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace restkv::cli {

/// How long a pipe that stays silent is waited for.
struct Patience {
  std::chrono::milliseconds until_notice{2'000};
  std::chrono::milliseconds until_refusal{10'000};
};

/// What was piped or redirected into a descriptor that nobody named, to its end. Nothing where
/// there cannot be anything: at a terminal, in /dev/null, if it is closed; nor where another
/// program has begun to read the file, as in `while read line; do restkv ...; done < lines`, which
/// is said on standard error.
///
/// Many programs start others with an open pipe that never brings anything. A pipe without a first
/// byte therefore gets a notice, then `Error` (kInvalidArgument): to answer without what a slow
/// program was about to write would be wrong, and to wait for ever as well.
std::string read_if_piped(int fd, const Patience& patience = {});

/// What standard input is called in messages.
inline constexpr std::string_view kStandardInputName = "standard input";

}  // namespace restkv::cli
