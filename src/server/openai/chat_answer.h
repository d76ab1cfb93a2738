#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "restkv/generate.h"
#include "server/openai/chat_request.h"
#include "server/openai/token_logprobs.h"

/// A chat's answer, whatever form the client gets it in.
namespace restkv::server {

/// What an assistant has said.
struct ChatAnswer {
  std::string content = {};
  std::string reasoning = {};
  std::vector<ToolCall> tool_calls = {};
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<NamedLogprob> logprobs = {};
};

/// Some more of it.
struct ChatDelta {
  std::string content = {};
  std::string reasoning = {};
  /// Of the call `index`: a new call brings its id and its name. Nothing more comes for the calls
  /// before it.
  struct Call {
    size_t index = 0;
    std::string id;
    std::string name;
    std::string arguments;
  };
  std::vector<Call> calls = {};

  [[nodiscard]] bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

}  // namespace restkv::server
