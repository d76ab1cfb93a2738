#pragma once

#include <optional>
#include <string>

#include "server/openai/call_reader.h"
#include "server/openai/chat_request.h"

/// What a model may write that has tools as `with_tools_as_text` describes them.
namespace restkv::server {

/// What a model thinks before its answer.
struct ThoughtTags {
  std::string open = "<think>";
  std::string close = "</think>";
};

/// What answers with calls look like. `may_call(chat)`.
struct CallForm {
  CallReader reader;
  std::string gbnf;
};

/// How the answer to `chat` begins.
struct AnswerBeginning {
  std::string begun = {};                   ///< By the client.
  std::optional<ThoughtTags> thought = {};  ///< It may begin with these.
  bool is_inside_thought = false;           ///< The prompt has opened them.
};

/// Where a call is required, the grammar takes nothing else. Where it is not, the answer may be
/// text, or JSON by the schema of the chat; but what begins like a call of a tool has to go on as
/// one, with arguments that follow the tool's schema. Throws `HttpError` (400), `param` the tool or
/// the schema that cannot be followed.
CallForm call_form(const Chat& chat, const AnswerBeginning& beginning);

}  // namespace restkv::server
