#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace restkv {

/// White space of one byte, which libllama trims from messages and around control tokens.
inline constexpr std::string_view kAsciiSpace = " \t\n\v\f\r";

/// The text without `kAsciiSpace` at both ends.
std::string_view trimmed(std::string_view text);

/// Converts input (a prompt, a line of a chat, a text file) to valid UTF-8 without zero bytes,
/// which tokenizers, JSON and C strings all accept. UTF-16 and UTF-32 with a byte order mark are
/// converted; the mark of UTF-8 is dropped. Nothing else is changed. Throws `Error` (kInput) on
/// other input, naming `source` ("report.txt", "standard input"), the kind of file or the place of
/// the first bad byte, and the remedy.
std::string to_utf8(std::string bytes, std::string_view source);

/// Checks the first bytes of a UTF-8 file that is read piece by piece. Throws `Error` (kInput) on
/// UTF-16, UTF-32 and binary files.
void require_text_file(std::string_view first_bytes, std::string_view source);

/// Whether a text begins with the byte order mark of UTF-16 or UTF-32.
bool has_wide_mark(std::string_view bytes);

/// Throws `Error` (kInvalidArgument) if a text holds a zero byte, where C libraries would end it.
/// `what` names the text in the message: "the user's message".
void require_no_zero_byte(std::string_view text, std::string_view what);

/// The same text with U+FFFD for every sequence of bytes that is not UTF-8.
std::string replace_invalid_utf8(std::string_view bytes);

/// Number of bytes of the first character of a non-empty text; 1 if it is invalid.
size_t utf8_length(std::string_view text);

/// Number of bytes of the text without an incomplete UTF-8 character at its end.
size_t complete_utf8(std::string_view bytes);

}  // namespace restkv
