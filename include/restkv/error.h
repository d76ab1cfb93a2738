#pragma once

#include <stdexcept>
#include <string>

namespace restkv {

/// Kind of a failure; the command line turns it into an exit code.
enum class ErrorCode {
  kInvalidArgument,  ///< An option or argument cannot be used (value out of range, contradiction).
  kInput,            ///< A file or data given by the user is missing, truncated or malformed.
  kUnsupported,      ///< Well-formed, but not supported by this version or processor.
  kIo,               ///< Reading or writing failed (permissions, full disk, closed pipe).
  kInterrupted,      ///< The caller asked to stop (Ctrl-C, a progress callback returning false).
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
