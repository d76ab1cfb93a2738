#include "cli/line_reader.h"

#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "base/text.h"
#include "cli/signals.h"
#include "cli/standard_input.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

constexpr size_t kMostBytesOfLine = size_t{64} << 20U;

// Bracketed paste (xterm): what is pasted stands between these two.
constexpr const char* kPastesOn = "\x1b[?2004h";
constexpr const char* kPastesOff = "\x1b[?2004l";
constexpr const char* kPasteBegins = "\\e[200~";  // as libedit's bindings are written
constexpr std::string_view kPasteEnds = "\x1b[201~";

void append_utf8(std::string& text, wchar_t c) {
  const auto code = std::bit_cast<uint32_t>(c);
  const auto rest = [&](unsigned shift) {
    text += static_cast<char>(0x80U | ((code >> shift) & 0x3FU));
  };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0U | (code >> 6U));
    rest(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0U | (code >> 12U));
    rest(6);
    rest(0);
  } else {
    text += static_cast<char>(0xF0U | (code >> 18U));
    rest(12);
    rest(6);
    rest(0);
  }
}

/// What was pasted, with line feeds: terminals send carriage returns.
std::string with_line_feeds(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      out += '\n';
    }
  }
  return out;
}

}  // namespace

struct LineReader::Editor {
  struct End {
    void operator()(EditLine* editor) const { el_end(editor); }
    void operator()(History* lines) const { history_end(lines); }
  };
  std::unique_ptr<History, End> history{history_init()};
  // On standard error: standard output is for answers.
  std::unique_ptr<EditLine, End> line{el_init("restkv", stdin, stderr, stderr)};
  HistEvent event{};
  const char* prompt = "> ";
  /// Pastes of several lines, and what stands for them while the line is edited.
  std::vector<std::pair<std::string, std::string>> pastes;

  static Editor& of(EditLine* line) {
    void* data = nullptr;
    el_get(line, EL_CLIENTDATA, &data);
    return *static_cast<Editor*>(data);
  }

  /// Called when a paste begins. Text of one line goes into the line as if it were typed.
  static unsigned char paste(EditLine* line, int /*key*/) {
    std::string text;
    wchar_t c = 0;
    while (!text.ends_with(kPasteEnds)) {
      if (text.size() > kMostBytesOfLine || el_wgetc(line, &c) != 1) return CC_EOF;
      append_utf8(text, c);
    }
    text.resize(text.size() - kPasteEnds.size());
    text = with_line_feeds(text);
    while (text.ends_with('\n')) text.pop_back();
    const auto breaks = std::ranges::count(text, '\n');
    if (breaks > 0) {
      std::vector<std::pair<std::string, std::string>>& pastes = of(line).pastes;
      std::string mark = fmt::format("[pasted {} lines]", breaks + 1);
      const bool taken =
          std::ranges::any_of(pastes, [&](const auto& paste) { return paste.first == mark; });
      if (taken) mark = fmt::format("[pasted {} lines, {}]", breaks + 1, pastes.size() + 1);
      pastes.emplace_back(mark, std::move(text));
      text = mark;
    }
    if (!text.empty() && el_insertstr(line, text.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
  }

  /// The line with the pastes that its marks stand for.
  [[nodiscard]] std::string with_pastes(std::string text) const {
    for (const auto& [mark, paste] : pastes) {
      const size_t at = text.find(mark);
      if (at != std::string::npos) text.replace(at, mark.size(), paste);
    }
    return text;
  }
};

LineReader::LineReader() {
  if (isatty(STDIN_FILENO) == 0) return;
  // Characters of more than one byte: all that is typed is UTF-8, whatever else the locale says.
  if (std::setlocale(LC_CTYPE, "") == nullptr || std::string_view(nl_langinfo(CODESET)) != "UTF-8")
    std::setlocale(LC_CTYPE, "C.UTF-8");
  auto editor = std::make_unique<Editor>();
  if (!editor->line || !editor->history) return;
  EditLine* line = editor->line.get();
  history(editor->history.get(), &editor->event, H_SETSIZE, 1000);
  using Prompt = const char* (*)(EditLine*);
  const Prompt prompt = [](EditLine* of) { return Editor::of(of).prompt; };
  el_set(line, EL_CLIENTDATA, editor.get());
  el_set(line, EL_PROMPT, prompt);
  el_set(line, EL_EDITOR, "emacs");
  el_set(line, EL_HIST, history, editor->history.get());
  // A signal would end the process and leave the terminal without echo.
  el_set(line, EL_SETTY, "-d", "-isig", nullptr);
  el_set(line, EL_BIND, "^C", "em-kill-line", nullptr);
#ifdef __SANITIZE_ADDRESS__
  const __lsan::ScopedDisabler not_ours;  // libedit never frees the names of functions
#endif
  el_set(line, EL_ADDFN, "restkv-paste", "Take what is pasted", Editor::paste);
  el_set(line, EL_BIND, kPasteBegins, "restkv-paste", nullptr);
  editor_ = std::move(editor);
}

LineReader::~LineReader() = default;

std::optional<std::string> LineReader::next(const char* prompt) {
  std::string text;
  ++number_;
  if (!editor_) {
    release_interrupts();
    if (!read_line(input(), text)) return std::nullopt;
    if (number_ == 1 && has_wide_mark(text)) {
      convert_input(std::move(text));
      read_line(input(), text);
    }
    catch_interrupts();
    for (const char end : {'\n', '\r'}) {
      if (text.ends_with(end)) text.pop_back();
    }
    return text;
  }
  // Before the prompt invites to type: from here on Ctrl-C is a character.
  el_set(editor_->line.get(), EL_PREP_TERM, 1);
  hold_interrupts();
  editor_->prompt = prompt;
  std::fputs(kPastesOn, stderr);
  int length = 0;
  const char* line = el_gets(editor_->line.get(), &length);
  std::fputs(kPastesOff, stderr);  // what comes next may be another program
  if (line == nullptr || length <= 0) {
    std::fputs("\n", stderr);  // what the shell prints next begins a line
    return std::nullopt;
  }
  text.assign(line, static_cast<size_t>(length));
  history(editor_->history.get(), &editor_->event, H_ENTER, line);
  if (text.ends_with('\n')) text.pop_back();
  return editor_->with_pastes(std::move(text));
}

void LineReader::release_terminal() {
  if (editor_) el_set(editor_->line.get(), EL_PREP_TERM, 0);
}

bool LineReader::read_line(std::istream& from, std::string& line) const {
  line.clear();
  std::streambuf& bytes = *from.rdbuf();
  for (int c = bytes.sbumpc(); c != std::char_traits<char>::eof(); c = bytes.sbumpc()) {
    if (line.size() == kMostBytesOfLine) {
      throw Error(ErrorCode::kInput, fmt::format("line {} of standard input has more than {} MiB",
                                                 number_, kMostBytesOfLine >> 20U));
    }
    line += static_cast<char>(c);
    if (c == '\n') break;
  }
  return !line.empty();
}

std::istream& LineReader::input() {
  if (converted_) return *converted_;
  return std::cin;
}

void LineReader::convert_input(std::string first_line) {
  first_line.append(std::istreambuf_iterator<char>(std::cin), {});
  converted_.emplace(to_utf8(std::move(first_line), kStandardInputName));
}

}  // namespace restkv::cli
