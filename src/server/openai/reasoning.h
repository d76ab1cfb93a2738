#pragma once

#include <string>
#include <string_view>

namespace restkv::server {

/// Tells what a model thinks from what it answers: <think>...</think> at the beginning of a text.
/// Takes the text in pieces; what may be the beginning of a tag waits for the rest of it.
class ReasoningSplitter {
 public:
  struct Parts {
    std::string reasoning;
    std::string content;
  };

  /// `begins_inside`: the prompt has opened the tag already.
  explicit ReasoningSplitter(bool begins_inside = false, std::string open = "<think>",
                             std::string close = "</think>");

  /// What has become certain with this piece. White space around the reasoning is left out.
  Parts push(std::string_view text);
  /// What is left, if the text ends here. A tag that was not closed is closed by the end.
  Parts end();

 private:
  enum class State { kBefore, kInside, kBetween, kAfter };
  Parts advance(bool is_end);

  State state_;
  std::string open_;
  std::string close_;
  std::string pending_;  ///< Not yet told from a tag.
  bool has_reasoning_ = false;
};

/// The whole of a text.
ReasoningSplitter::Parts split_reasoning(std::string_view text, bool begins_inside = false);

}  // namespace restkv::server
