#pragma once

#include <cstddef>
#include <string_view>

namespace restkv {

/// Characters of the longest part of a text that a pre-tokenizer of libllama could match as one
/// pre-token, which it encodes alone. Their regular expressions match within a word and the white
/// space around it; one of them goes on over single spaces between letters, another over line ends
/// and slashes. Parts therefore end where white space is followed by something else that is no
/// slash, unless it is a single space behind what may be a letter. The count may be too large,
/// where text is not ASCII, but not too small.
size_t longest_pre_token(std::string_view text);

}  // namespace restkv
