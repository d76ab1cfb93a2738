#pragma once

#include <string>
#include <string_view>

/// Files that options name for what comes out; "-" is standard output, as it is standard input
/// where something is read.
namespace restkv::cli {

inline constexpr std::string_view kStandardInput = "-";
inline constexpr std::string_view kStandardOutput = "-";

/// Writes `content` to standard output or, whole or not at all, to the file `path`. Throws `Error`
/// (kIo).
void write_output(const std::string& path, std::string_view content);

/// For what cannot go to standard output: a folder, a snapshot. Throws `Error` (kInvalidArgument)
/// if `path` means it.
void refuse_standard_output(std::string_view option, const std::string& path);

}  // namespace restkv::cli
