#pragma once

#include <cstddef>
#include <string_view>

namespace restkv {

/// Upper bound, in characters, of the longest pre-token that a pre-tokenizer of libllama could
/// match in a text. Their regular expressions match a word and the white space around it. One of
/// them continues over single spaces between letters, another over line ends and slashes. A
/// pre-token therefore ends where white space is followed by another character but a slash, unless
/// the white space is a single space after a possible letter. The bound may be too large for text
/// that is not ASCII.
size_t longest_pre_token(std::string_view text);

}  // namespace restkv
