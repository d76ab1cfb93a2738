#include "document/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "base/ascii.h"
#include "base/text.h"
#include "document/charset.h"
#include "document/html_text.h"
#include "document/pdf_text.h"
#include "restkv/error.h"

namespace restkv::document {
namespace {

/// Readers of PDF look for its mark in so many bytes, since mail and printers put theirs before it.
constexpr size_t kPdfMarkWithin = 1024;

bool says_pdf(const Source& source) {
  return lower_case(source.name).ends_with(".pdf") ||
         lower_case(source.content_type).starts_with("application/pdf");
}

bool is_pdf(std::string_view bytes, const Source& source) {
  if (trimmed(bytes.substr(0, kPdfMarkWithin)).starts_with("%PDF-")) return true;
  return says_pdf(source) &&
         bytes.substr(0, kPdfMarkWithin).find("%PDF-") != std::string_view::npos;
}

/// The text without white space, an XML declaration and comments at its beginning.
std::string_view skip_prologue(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kSkipped{
      {{"<?", "?>"}, {"<!--", "-->"}}};
  for (bool skipped = true; skipped;) {
    skipped = false;
    text.remove_prefix(std::min(text.find_first_not_of(kAsciiSpace), text.size()));
    for (const auto& [begin, end] : kSkipped) {
      if (!text.starts_with(begin)) continue;
      const size_t at = text.find(end, begin.size());
      text.remove_prefix(at == std::string_view::npos ? text.size() : at + end.size());
      skipped = true;
    }
  }
  return text;
}

bool is_html(std::string_view text, const Source& source) {
  const std::string begin = lower_case(skip_prologue(text).substr(0, 15));
  const auto begins_with_tag = [&](std::string_view tag) {
    return begin.starts_with(tag) && begin.size() > tag.size() &&
           (begin[tag.size()] == '>' ||
            std::isspace(static_cast<unsigned char>(begin[tag.size()])) != 0);
  };
  if (begins_with_tag("<!doctype html") || begins_with_tag("<html")) return true;
  const std::string name = lower_case(source.name);
  const std::string type = lower_case(source.content_type);
  return name.ends_with(".html") || name.ends_with(".htm") || name.ends_with(".xhtml") ||
         type.starts_with("text/html") || type.starts_with("application/xhtml+xml");
}

}  // namespace

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kHtml:
      return "html";
    case Kind::kPdf:
      return "pdf";
    case Kind::kText:
      break;
  }
  return "text";
}

std::vector<Kind> readable_kinds() {
  std::vector<Kind> kinds{Kind::kText, Kind::kHtml};
  if (can_read_pdf()) kinds.push_back(Kind::kPdf);
  return kinds;
}

Document read_document(std::string bytes, const Source& source) {
  const auto refuse = [&](std::string_view why) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", source.name, why));
  };
  Document document;
  if (is_pdf(bytes, source)) {
    document = {Kind::kPdf, pdf_text(bytes, source.name)};
  } else {
    if (bytes.starts_with("{\\rtf")) {
      refuse(
          "is an RTF document, not a text; extract its text, for instance: "
          "soffice --convert-to txt FILE");
    }
    document.text = decode_text(std::move(bytes), source);
    if (is_html(document.text, source)) {
      document = {Kind::kHtml, html_text(document.text, source.name)};
    }
  }
  if (document.kind == Kind::kText || !trimmed(document.text).empty()) return document;
  if (document.kind == Kind::kPdf) {
    refuse(
        "is a PDF document without text: its pages are probably pictures; recognise their text "
        "first, for instance: ocrmypdf IN OUT");
  }
  refuse(
      "is an HTML page without text: a script in the browser probably makes it; save what the "
      "browser shows as text");
  return document;
}

}  // namespace restkv::document
