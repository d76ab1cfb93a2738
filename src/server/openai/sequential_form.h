#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "restkv/tokenizer.h"
#include "server/openai/chat_form.h"

namespace restkv::server {

/// A form of one answer that is a list of parts: what the model thinks, its text, its calls of
/// tools. In a stream one part ends before the next begins. An empty part is left out.
class SequentialForm : public ChatForm {
 public:
  /// What comes beside the calls after the first of them waits for the end: it would end a call
  /// that may go on.
  std::string write(size_t choice, const ChatDelta& delta,
                    std::span<const NamedLogprob> logprobs) final;

 protected:
  enum class Part { kReasoning, kText, kCall };

  /// Tokens of the text that follows, before `write_part`.
  virtual void add_logprobs(std::span<const NamedLogprob> /*logprobs*/) {}
  /// `call`: its id and its name, for `kCall`.
  virtual std::string begin_part(Part part, const ChatDelta::Call& call) = 0;
  /// More of the part that was begun last: whole characters, at least one.
  virtual std::string write_part(std::string_view text) = 0;
  /// `is_cut`: the answer ends here because it may not go on.
  virtual std::string end_part(bool is_cut) = 0;

  /// The rest of the parts, at the end of an answer.
  std::string end_parts(bool is_cut);
  [[nodiscard]] bool has_calls() const { return has_calls_; }

 private:
  std::string write_text(Part part, std::string_view text);
  std::string change_to(Part part, const ChatDelta::Call& call);

  Utf8Stream content_;
  Utf8Stream reasoning_;
  std::optional<Part> open_;
  size_t call_ = 0;  ///< Of `kCall`.
  bool has_calls_ = false;
  ChatDelta late_;  ///< After the calls.
};

}  // namespace restkv::server
