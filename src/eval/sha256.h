#pragma once

#include <filesystem>
#include <string>

namespace restkv::eval {

/// SHA-256 of the bytes of a file, as 64 lower-case hex digits. Throws Error(kInput) naming the
/// path and the reason.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace restkv::eval
