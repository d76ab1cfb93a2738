#include "document/charset.h"

#include <fmt/format.h>
#include <unicode/ucnv.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

#include "base/printable.h"
#include "base/text.h"
#include "restkv/error.h"

namespace restkv::document {
namespace {

/// Browsers look for a declaration in so many bytes (HTML standard, "prescan a byte stream").
constexpr size_t kDeclarationWithin = 1024;

/// Encodings whose texts are ASCII to the eye, so that they look like UTF-8.
constexpr char kEscape = '\x1b';

/// The word after `key` and "=", without quotes; empty: there is none.
std::string value_after(std::string_view text, std::string_view key) {
  const auto equal = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  };
  const auto found = std::ranges::search(text, key, equal);
  if (found.empty()) return {};
  std::string_view rest(found.end(), text.end());
  const size_t begin = rest.find_first_not_of(kAsciiSpace);
  if (begin == std::string_view::npos || rest[begin] != '=') return {};
  rest.remove_prefix(begin + 1);
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n\"'"), rest.size()));
  return std::string(rest.substr(0, rest.find_first_of(" \t\r\n\"';>?/")));
}

std::string declared_charset(std::string_view bytes, const Source& source) {
  std::string name = value_after(source.content_type, "charset");
  const std::string_view begin = bytes.substr(0, kDeclarationWithin);
  if (name.empty() && begin.starts_with("<?xml")) {
    name = value_after(begin.substr(0, begin.find("?>")), "encoding");
  }
  if (!name.empty()) return name;
  const size_t meta =
      begin.find("<meta") != std::string_view::npos ? begin.find("<meta") : begin.find("<META");
  return meta == std::string_view::npos ? "" : value_after(begin.substr(meta), "charset");
}

/// Names that stand for a larger encoding on the web (Encoding standard, "names and labels").
std::string_view as_on_the_web(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kLarger{
      {{"iso-8859-1", "windows-1252"},
       {"latin1", "windows-1252"},
       {"us-ascii", "windows-1252"},
       {"iso-8859-9", "windows-1254"},
       {"gb2312", "gb18030"},
       {"gbk", "gb18030"}}};
  for (const auto& [label, larger] : kLarger) {
    const auto equal = [](char a, char b) {
      return std::tolower(static_cast<unsigned char>(a)) == b;
    };
    if (std::ranges::equal(name, label, equal)) return larger;
  }
  return name;
}

std::string convert(std::string_view bytes, const std::string& declared, const Source& source) {
  const auto refuse = [&](std::string_view why) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: declares the encoding '{}', {}; save it as UTF-8", source.name,
                            printable(declared), why));
  };
  UErrorCode status = U_ZERO_ERROR;
  const std::string name(as_on_the_web(declared));
  const std::unique_ptr<UConverter, void (*)(UConverter*)> converter(
      ucnv_open(name.c_str(), &status), ucnv_close);
  if (U_FAILURE(status) != 0) refuse("which is not known");
  if (bytes.size() > std::numeric_limits<int32_t>::max() / 2) refuse("and is too long for that");
  ucnv_setToUCallBack(converter.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &status);
  const icu::UnicodeString text(bytes.data(), static_cast<int32_t>(bytes.size()), converter.get(),
                                status);
  if (U_FAILURE(status) != 0) refuse("but is not in it");
  std::string converted;
  text.toUTF8String(converted);
  return converted;
}

}  // namespace

std::string decode_text(std::string bytes, const Source& source) {
  if (!has_wide_mark(bytes)) {
    const bool may_be_utf8 =
        replace_invalid_utf8(bytes) == bytes && bytes.find(kEscape) == std::string::npos;
    const std::string declared = may_be_utf8 ? "" : declared_charset(bytes, source);
    if (!declared.empty()) bytes = convert(bytes, declared, source);
  }
  return to_utf8(std::move(bytes), source.name);
}

}  // namespace restkv::document
