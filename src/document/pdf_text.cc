#include "document/pdf_text.h"

#include <fmt/format.h>

#include <optional>

#include "base/printable.h"
#include "base/text.h"
#include "document/limited_program.h"
#include "restkv/error.h"

namespace restkv::document {
namespace {

constexpr const char* kProgram = "pdftotext";

/// Why a run has no result.
std::string failure(const ProgramResult& result) {
  switch (result.end) {
    case ProgramResult::End::kTimedOut:
      return "pdftotext did not end within 30 s; split it, or extract its text yourself: "
             "pdftotext FILE";
    case ProgramResult::End::kTooMuchOutput:
      return "its text has more than 64 MiB; split it";
    case ProgramResult::End::kSignalled:
      return fmt::format(
          "pdftotext was ended by signal {}; it is damaged, or takes more than 1 GiB of memory",
          result.value);
    case ProgramResult::End::kExited:
      break;
  }
  if (result.errors.find("password") != std::string::npos) {
    return "it needs a password; remove it, for instance: qpdf --decrypt --password=... IN OUT";
  }
  const std::string reason = printable(trimmed(result.errors.substr(0, result.errors.find('\n'))));
  return fmt::format("pdftotext cannot read it ({}); is it damaged?",
                     reason.empty() ? fmt::format("exit code {}", result.value) : reason);
}

}  // namespace

bool can_read_pdf() { return find_program(kProgram).has_value(); }

std::string pdf_text(std::string_view bytes, std::string_view name) {
  const std::optional<std::string> program = find_program(kProgram);
  if (!program) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: is a PDF document, and pdftotext, which finds the text in it, is "
                            "not installed; install it (Debian: apt install poppler-utils), or "
                            "give its text",
                            name));
  }
  ProgramResult result =
      run_limited(*program, {"-enc", "UTF-8", "-eol", "unix", "-nopgbrk", "-", "-"}, bytes, {});
  if (result.end != ProgramResult::End::kExited || result.value != 0) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: is a PDF document, but {}", name, failure(result)));
  }
  // Fonts may map a character to anything.
  std::string text = replace_invalid_utf8(result.output);
  std::erase(text, '\0');
  return text;
}

}  // namespace restkv::document
