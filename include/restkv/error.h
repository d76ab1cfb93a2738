#pragma once

#include <stdexcept>
#include <string>

namespace restkv {

/// Kind of a failure; the command line turns it into an exit code. The numbers stay; 0 is no error.
enum class ErrorCode {
  /// An option or argument cannot be used (value out of range, contradiction).
  kInvalidArgument = 1,
  kInput = 2,        ///< A file or data given by the user is missing, truncated or malformed.
  kUnsupported = 3,  ///< Well-formed, but not supported by this version or processor.
  kIo = 4,           ///< Reading or writing failed (permissions, full disk, closed pipe).
  kInterrupted = 5,  ///< The caller asked to stop (Ctrl-C, a progress callback returning false).
  kOutOfMemory = 6,  ///< C++ callers get `std::bad_alloc` instead.
  kInternal = 7,     ///< A fault of the library; C++ callers get another exception.
};

/// The one exception type of the library. `what()` names the object, the value and the remedy.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace restkv
