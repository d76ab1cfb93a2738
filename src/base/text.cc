#include "base/text.h"

#include <fmt/format.h>
// Macros only: nothing of ICU is linked.
#include <unicode/utf16.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "restkv/error.h"

namespace restkv {
namespace {

using namespace std::string_view_literals;

/// Kinds of files that are passed as texts by mistake, by their first bytes.
struct Kind {
  std::string_view begin;
  std::string_view name;
  std::string_view remedy;
};
constexpr std::array kKinds{
    Kind{"rkv-snap"sv, "a saved session", "go on with it by loading it as a cache"},
    Kind{"GGUF"sv, "a GGUF model", "run it: restkv run -m FILE"},
    Kind{"%PDF-"sv, "a PDF document", "extract its text: pdftotext FILE"},
    Kind{"PK\x03\x04"sv, "a zip archive (perhaps .docx, .odt or .epub)",
         "extract its text, for instance: pandoc -t plain FILE"},
    Kind{"\xD0\xCF\x11\xE0"sv, "an old Office document",
         "extract its text, for instance: soffice --convert-to txt FILE"},
    Kind{"\x1F\x8B"sv, "compressed with gzip", "decompress it: zcat FILE"},
    Kind{"BZh"sv, "compressed with bzip2", "decompress it: bzcat FILE"},
    Kind{"\xFD\x37zXZ"sv, "compressed with xz", "decompress it: xzcat FILE"},
    Kind{"\x28\xB5\x2F\xFD"sv, "compressed with zstd", "decompress it: zstdcat FILE"},
    Kind{"\x89PNG"sv, "a PNG picture", "only texts can be read"},
    Kind{"\xFF\xD8\xFF"sv, "a JPEG picture", "only texts can be read"},
    Kind{"\x7F\x45LF"sv, "a program", "only texts can be read"}};

[[noreturn]] void refuse(std::string_view source, const std::string& reason) {
  throw Error(ErrorCode::kInput, fmt::format("{}: {}", source, reason));
}

const uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

void append(std::string& text, UChar32 character) {
  std::array<uint8_t, U8_MAX_LENGTH> bytes{};
  size_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, character);
  text.append(bytes.begin(), bytes.begin() + length);
}

/// Offset of the first byte that does not belong to a UTF-8 character.
std::optional<size_t> first_invalid(std::string_view text) {
  const uint8_t* bytes = bytes_of(text);
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    UChar32 character = 0;
    U8_NEXT(bytes, i, text.size(), character);
    if (character < 0) return begin;
  }
  return std::nullopt;
}

/// A text in units of 2 or 4 bytes, after its byte order mark.
std::string from_units(std::string_view bytes, size_t unit_bytes, bool big_endian,
                       std::string_view source) {
  const std::string name = fmt::format("UTF-{}{}", 8 * unit_bytes, big_endian ? "BE" : "LE");
  const auto fail = [&](size_t offset) {
    refuse(source, fmt::format("begins with the byte order mark of {}, but holds no character at "
                               "offset {}; is it cut off, or no text at all?",
                               name, unit_bytes + offset));
  };
  const size_t units = bytes.size() / unit_bytes;
  const auto unit = [&](size_t i) {
    uint32_t value = 0;
    for (size_t b = 0; b < unit_bytes; ++b) {
      const size_t at = i * unit_bytes + (big_endian ? b : unit_bytes - 1 - b);
      value = value << 8U | static_cast<uint8_t>(bytes[at]);
    }
    return value;
  };
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < units; ++i) {
    uint32_t character = unit(i);
    if (unit_bytes == 2 && U16_IS_LEAD(character) && i + 1 < units && U16_IS_TRAIL(unit(i + 1))) {
      character = static_cast<uint32_t>(U16_GET_SUPPLEMENTARY(character, unit(i + 1)));
      ++i;
    }
    if (character == 0 || character > 0x10FFFF || U_IS_SURROGATE(character)) fail(i * unit_bytes);
    append(text, static_cast<UChar32>(character));
  }
  if (units * unit_bytes != bytes.size()) fail(units * unit_bytes);
  return text;
}

/// Throws the reason and remedy for a text that is not UTF-8 and has no byte order mark.
[[noreturn]] void refuse_bytes(std::string_view bytes, std::string_view source) {
  for (const Kind& kind : kKinds) {
    if (!bytes.starts_with(kind.begin)) continue;
    refuse(source, fmt::format("is {}, not a text; {}", kind.name, kind.remedy));
  }
  if (const size_t zero = bytes.find('\0'); zero != std::string_view::npos) {
    refuse(source, fmt::format("is binary or UTF-16 without a byte order mark: it holds a zero "
                               "byte at offset {}; convert UTF-16: iconv -f UTF-16LE -t UTF-8",
                               zero));
  }
  const size_t at = first_invalid(bytes).value_or(0);
  const auto line =
      1 + std::count(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  refuse(source,
         fmt::format("is not UTF-8: byte 0x{:02X} at offset {} (line {}) belongs to no character; "
                     "convert other encodings (iconv -f WINDOWS-1252 -t UTF-8), or drop what is "
                     "not UTF-8 (iconv -c -f UTF-8 -t UTF-8)",
                     static_cast<uint8_t>(bytes[at]), at, line));
}

}  // namespace

std::string to_utf8(std::string bytes, std::string_view source) {
  const std::string_view all = bytes;
  // Checked first: the mark of UTF-32LE begins with that of UTF-16LE.
  if (all.starts_with("\xFF\xFE\0\0"sv)) return from_units(all.substr(4), 4, false, source);
  if (all.starts_with("\0\0\xFE\xFF"sv)) return from_units(all.substr(4), 4, true, source);
  if (all.starts_with("\xFF\xFE"sv)) return from_units(all.substr(2), 2, false, source);
  if (all.starts_with("\xFE\xFF"sv)) return from_units(all.substr(2), 2, true, source);
  if (all.find('\0') != std::string_view::npos || first_invalid(all)) refuse_bytes(all, source);
  if (all.starts_with("\xEF\xBB\xBF"sv)) bytes.erase(0, 3);
  return bytes;
}

void require_text_file(std::string_view first_bytes, std::string_view source) {
  if (has_wide_mark(first_bytes)) {
    refuse(source, "is UTF-16 or UTF-32; convert it: iconv -f UTF-16 -t UTF-8");
  }
  if (first_bytes.find('\0') != std::string_view::npos) refuse_bytes(first_bytes, source);
}

bool has_wide_mark(std::string_view bytes) {
  return bytes.starts_with("\xFF\xFE"sv) || bytes.starts_with("\xFE\xFF"sv) ||
         bytes.starts_with("\0\0\xFE\xFF"sv);
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kAsciiSpace), text.size());
  return text.substr(begin, text.find_last_not_of(kAsciiSpace) + 1 - begin);
}

void require_no_zero_byte(std::string_view text, std::string_view what) {
  const size_t zero = text.find('\0');
  if (zero == std::string_view::npos) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} holds a zero byte at offset {}, where C libraries would end it; "
                          "remove it",
                          what, zero));
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    UChar32 character = 0;
    U8_NEXT_OR_FFFD(bytes_of(bytes), i, bytes.size(), character);
    append(text, character);
  }
  return text;
}

size_t utf8_length(std::string_view text) {
  size_t length = 0;
  UChar32 character = 0;
  U8_NEXT(bytes_of(text), length, text.size(), character);
  return character < 0 ? 1 : length;
}

size_t complete_utf8(std::string_view bytes) {
  size_t length = bytes.size();
  // The macro goes back at most three bytes, by signed arithmetic.
  const size_t start = length - std::min<size_t>(length, 3);
  auto within = static_cast<int32_t>(length - start);
  U8_TRUNCATE_IF_INCOMPLETE((bytes_of(bytes) + start), 0, within);
  return start + static_cast<size_t>(within);
}

}  // namespace restkv
