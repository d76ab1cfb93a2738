#include "server/openai/sequential_form.h"

#include <utility>

namespace restkv::server {

std::string SequentialForm::write(size_t /*choice*/, const ChatDelta& delta,
                                  std::span<const NamedLogprob> logprobs) {
  add_logprobs(logprobs);
  const std::string reasoning = reasoning_.push(delta.reasoning);
  const std::string content = content_.push(delta.content);
  std::string events;
  if (has_calls_) {
    late_.reasoning += reasoning;
    late_.content += content;
  } else {
    events += write_text(Part::kReasoning, reasoning);
    events += write_text(Part::kText, content);
  }
  for (const ChatDelta::Call& call : delta.calls) {
    if (open_ != Part::kCall || call_ != call.index) {
      events += change_to(Part::kCall, call);
      call_ = call.index;
      has_calls_ = true;
    }
    if (!call.arguments.empty()) events += write_part(call.arguments);
  }
  return events;
}

std::string SequentialForm::write_text(Part part, std::string_view text) {
  if (text.empty()) return "";
  std::string events;
  if (open_ != part) events = change_to(part, {});
  return events + write_part(text);
}

std::string SequentialForm::change_to(Part part, const ChatDelta::Call& call) {
  std::string events;
  if (open_) events = end_part(false);
  open_ = part;
  return events + begin_part(part, call);
}

std::string SequentialForm::end_parts(bool is_cut) {
  std::string events = write_text(Part::kReasoning, std::exchange(late_.reasoning, {}));
  events += write_text(Part::kText, std::exchange(late_.content, {}));
  if (open_) events += end_part(is_cut);
  open_.reset();
  return events;
}

}  // namespace restkv::server
