#pragma once

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace restkv::document {

struct ProgramLimits {
  std::chrono::milliseconds wall{30'000};
  size_t memory_bytes = size_t{1} << 30;   ///< Address space.
  size_t output_bytes = size_t{64} << 20;  ///< Standard output.
};

struct ProgramResult {
  enum class End { kExited, kSignalled, kTimedOut, kTooMuchOutput };
  End end = End::kExited;
  int value = 0;  ///< Exit code, or number of the signal.
  std::string output;
  std::string errors;  ///< The beginning of standard error.
};

/// Path of a program in the PATH.
std::optional<std::string> find_program(std::string_view name);

/// Runs a program that reads what strangers have made: without a shell, with `input` as standard
/// input, which it can seek in, and within the limits. It has an empty environment, no other
/// descriptors, a low priority, and can write no file. Where the kernel has Landlock, it can read
/// nothing but system folders, and make no connections. It ends with the calling thread. Throws
/// `Error` (kIo): the process cannot be made.
ProgramResult run_limited(const std::string& path, std::initializer_list<const char*> arguments,
                          std::string_view input, const ProgramLimits& limits);

}  // namespace restkv::document
