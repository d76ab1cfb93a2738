#pragma once

#include <string>
#include <string_view>

namespace restkv::document {

/// Whether `pdf_text` has the program that it needs. Looks in the PATH each time: it may be
/// installed meanwhile.
bool can_read_pdf();

/// The text of a PDF document, page after page in reading order, as pdftotext (of poppler or Xpdf)
/// finds it. The program gets 30 seconds, 1 GiB of memory and 64 MiB for its output, and nothing
/// that it could change or tell anybody (`run_limited`). Throws `Error`, naming the file `name`:
/// kUnsupported (there is no pdftotext), kInput (it needs a password, is damaged, or takes more
/// than that), kIo (no process can be started).
std::string pdf_text(std::string_view bytes, std::string_view name);

}  // namespace restkv::document
