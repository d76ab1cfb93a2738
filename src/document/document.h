#pragma once

#include <string>
#include <string_view>
#include <vector>

/// The text of files that people have: notes, pages of the web, reports.
namespace restkv::document {

enum class Kind { kText, kHtml, kPdf };

/// "text", "html" or "pdf".
std::string_view kind_name(Kind kind);
/// Those that can be read here and now: `Kind::kPdf` needs a program that may be missing.
std::vector<Kind> readable_kinds();

/// What is known of a file besides its bytes.
struct Source {
  std::string name;               ///< For messages, and for its ending; never opened.
  std::string content_type = {};  ///< "text/html; charset=..."; empty: unknown.
};

struct Document {
  Kind kind = Kind::kText;
  std::string text;  ///< UTF-8 without zero bytes; empty only if the file is.
};

/// The text of a file. Its first bytes decide what kind it is; where they do not, the content type
/// and the ending of the name.
///
/// - Text, and with it Markdown and code, stays as it is, in UTF-8.
/// - HTML becomes its readable text (`html_text`).
/// - PDF becomes what pdftotext finds in it (`pdf_text`).
///
/// Encodings: those of `to_utf8`, and others that the page or the content type declares. Throws
/// `Error`, naming the file, its kind and the remedy: kInput (another kind of file, damaged, or a
/// page or PDF document without text), kUnsupported (no program for this kind is installed), kIo
/// (it cannot be started).
Document read_document(std::string bytes, const Source& source);

}  // namespace restkv::document
