#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/openai/call_pattern.h"
#include "server/openai/chat_answer.h"

namespace restkv::server {

/// Where an answer may have calls of tools.
enum class CallPlace {
  kBeginning,   ///< At its beginning, one after the other.
  kLines,       ///< At the beginning of any line.
  kLaterLines,  ///< The same, but the answer goes on with a line that has begun.
};

/// Tells the calls of `CallPattern` from text. Takes the text in pieces: what may be the beginning
/// of a call waits for the rest of it. White space around calls is left out.
class CallReader {
 public:
  /// `names`: of the tools.
  CallReader(std::vector<std::string> names, CallPlace place);

  /// What has become certain. `make_id` gives ids to calls.
  ChatDelta push(std::string_view text, const std::function<std::string()>& make_id);
  /// The rest, if the text ends here. What has not become a call is content.
  ChatDelta end();

 private:
  enum class State {
    kMaybe,      ///< At `node_` of the pattern.
    kText,       ///< In a line that is no call.
    kArguments,  ///< Within the value.
    kClosing,    ///< Before the last brace of a call.
  };

  void read(char c, const std::function<std::string()>& make_id, ChatDelta& delta);
  void read_maybe(char c, const std::function<std::string()>& make_id, ChatDelta& delta);
  void read_text(char c, ChatDelta& delta);
  void read_argument(char c, ChatDelta& delta);

  std::vector<std::string> names_;
  std::shared_ptr<const CallPattern> pattern_;
  CallPlace place_;
  State state_;
  size_t node_ = 0;
  size_t tool_ = 0;
  std::string held_;  ///< Content or not: white space, and the beginning of a call.
  size_t calls_ = 0;
  // The value of the arguments.
  size_t depth_ = 0;
  bool in_string_ = false;
  bool is_escaped_ = false;
};

}  // namespace restkv::server
