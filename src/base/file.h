#pragma once

#include <string>
#include <string_view>

namespace restkv {

/// Writes `content` to `path` so that a reader sees the old file or the new one, never half of it:
/// a temporary file in the same folder is written, closed and renamed. A symbolic link keeps
/// pointing where it pointed; a device or pipe (/dev/stdout) is written directly.
/// Throws Error(kIo) naming the path and the reason; the old file is then untouched and no
/// temporary file remains.
void write_file_atomically(const std::string& path, std::string_view content);

/// The bytes of the file at `path`. Throws Error(kInput) naming the path and the reason.
std::string read_file(const std::string& path);

}  // namespace restkv
