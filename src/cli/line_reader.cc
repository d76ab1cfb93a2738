#include "cli/line_reader.h"

#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "cli/signals.h"
#include "cli/standard_input.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

constexpr size_t kMostBytesOfLine = size_t{64} << 20U;

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
  const Prompt prompt = [](EditLine*) { return "> "; };
  el_set(line, EL_PROMPT, prompt);
  el_set(line, EL_EDITOR, "emacs");
  el_set(line, EL_HIST, history, editor->history.get());
  // A signal would end the process and leave the terminal without echo.
  el_set(line, EL_SETTY, "-d", "-isig", nullptr);
  el_set(line, EL_BIND, "^C", "em-kill-line", nullptr);
  editor_ = std::move(editor);
}

LineReader::~LineReader() = default;

std::optional<std::string> LineReader::next() {
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
  int length = 0;
  const char* line = el_gets(editor_->line.get(), &length);
  if (line == nullptr || length <= 0) {
    std::fputs("\n", stderr);  // what the shell prints next begins a line
    return std::nullopt;
  }
  text.assign(line, static_cast<size_t>(length));
  history(editor_->history.get(), &editor_->event, H_ENTER, line);
  if (text.ends_with('\n')) text.pop_back();
  return text;
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
