#include "cli/system_flags.h"

#include <fmt/format.h>

#include "base/text.h"
#include "restkv/error.h"
#include "server/openai/chat_format.h"

namespace restkv::cli {

void SystemFlags::declare(ArgumentParser& parser) {
  parser.add("--system", text_, "system message (default: what the file's chat template says)",
             "TEXT");
  parser.add_flag("--no-system", none_, "no system message, not even the template's own").rare();
}

void SystemFlags::refuse_with_loaded() const {
  if (!given()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} has no effect with --load-cache: the conversation has begun already",
                          name()));
}

std::string SystemFlags::message(const Tokenizer& tokenizer) const {
  if (!text_.empty() && none_) {
    throw Error(ErrorCode::kInvalidArgument,
                "--system and --no-system contradict each other; leave one of them out");
  }
  if (!tokenizer.has_chat_template()) {
    if (text_.empty()) return {};
    throw Error(ErrorCode::kInvalidArgument,
                "--system needs a chat template, which this model does not have");
  }
  if (!text_.empty()) return to_utf8(text_, "--system");
  return none_ ? std::string() : server::default_system_message(tokenizer);
}

}  // namespace restkv::cli
