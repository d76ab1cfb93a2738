#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace restkv {

/// White space of one byte, which libllama trims from messages and takes in beside control tokens.
inline constexpr std::string_view kAsciiSpace = " \t\n\v\f\r";

/// The text without such white space at both ends.
std::string_view trimmed(std::string_view text);

/// The bytes of any input (a prompt, a line of a chat, a file of texts) as valid UTF-8 without zero
/// bytes: what tokenizers, JSON and C strings agree on. UTF-16 and UTF-32 that say so with a byte
/// order mark are converted, and the mark of UTF-8 is dropped. Throws `Error` (kInput) on anything
/// else, naming `source` ("report.txt", "standard input"), the kind of file or the place of the
/// first bad byte, and the remedy. Nothing else is ever left out or replaced.
std::string to_utf8(std::string bytes, std::string_view source);

/// The same for a file of UTF-8 that is read piece by piece, from its first bytes: refuses UTF-16,
/// UTF-32 and what is binary.
void require_text_file(std::string_view first_bytes, std::string_view source);

/// Whether a text begins with the byte order mark of UTF-16 or UTF-32.
bool has_wide_mark(std::string_view bytes);

/// Throws `Error` (kInvalidArgument) if a text holds a zero byte, where C libraries would end it.
/// `what` the text is, for the message: "the user's message".
void require_no_zero_byte(std::string_view text, std::string_view what);

/// The same text with U+FFFD for every sequence of bytes that is not UTF-8.
std::string replace_invalid_utf8(std::string_view bytes);

/// Bytes of the first character of a text that is not empty; 1 if they are none.
size_t utf8_length(std::string_view text);

/// Bytes of the text without the beginning of a UTF-8 character that may stand at its end.
size_t complete_utf8(std::string_view bytes);

}  // namespace restkv
