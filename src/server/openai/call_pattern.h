#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// How a call of a tool begins where the model's template has no form for it:
/// {"name": "...", "arguments": ...}
namespace restkv::server {

/// The beginning of a call, character by character, for some tools. The grammar is written from it
/// and answers are read with it, so that both take the same texts for calls.
class CallPattern {
 public:
  struct Node {
    bool skips_space = false;  ///< White space stays here.
    std::map<char, size_t> next = {};
    std::vector<size_t> tools = {};  ///< Those whose name has just ended.
    bool is_end = false;             ///< The arguments follow.
  };

  /// Of tools with these names, which need no escapes in JSON.
  explicit CallPattern(const std::vector<std::string>& names);

  /// The first node is the beginning of a line.
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }

  /// The node behind the quote before a name.
  [[nodiscard]] size_t name() const { return name_; }

  /// White space between the parts of JSON.
  static constexpr std::string_view kSpace = " \t\r\n";

 private:
  size_t add(size_t from, char c);
  size_t add_text(size_t from, std::string_view text);
  /// One character, with white space before it.
  size_t add_spaced(size_t from, char c);

  std::vector<Node> nodes_;
  size_t name_ = 0;
};

}  // namespace restkv::server
