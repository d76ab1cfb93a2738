#include "document/text_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace restkv::document {
namespace {

constexpr size_t kLine = 1;
constexpr size_t kParagraph = 2;
constexpr size_t kIndent = 2;
constexpr std::string_view kNoBreakSpace = "\u00A0";

/// Bytes of the white space that a text begins with, 0 or one character.
size_t space_at_begin(std::string_view text) {
  if (text.starts_with(kNoBreakSpace)) return kNoBreakSpace.size();
  return kAsciiSpace.find(text.front()) != std::string_view::npos ? 1 : 0;
}

}  // namespace

void TextLayout::Flow::begin_text() {
  const bool begins_line = text.empty() || breaks > 0;
  if (!text.empty()) text.append(breaks, '\n');
  if (begins_line) {
    const size_t depth = lists.size() - (lists.empty() || mark.empty() ? 0 : 1);
    text.append(kIndent * depth, ' ').append(mark);
    mark.clear();
  } else if (space) {
    text += ' ';
  }
  breaks = 0;
  space = false;
}

void TextLayout::add(std::string_view text) {
  Flow& to = flow();
  if (to.verbatim > 0) {
    // A line feed behind the tag is not part of the text (HTML standard, "the pre element").
    if (to.breaks > 0 && text.starts_with('\n')) text.remove_prefix(1);
    if (text.empty()) return;
    to.begin_text();
    to.text += text;
    return;
  }
  while (!text.empty()) {
    if (const size_t space = space_at_begin(text); space > 0) {
      to.space = true;
      text.remove_prefix(space);
      continue;
    }
    size_t end = 1;
    while (end < text.size() && space_at_begin(text.substr(end)) == 0) ++end;
    to.begin_text();
    to.text += text.substr(0, end);
    text.remove_prefix(end);
  }
}

void TextLayout::new_line() { flow().breaks = std::max(flow().breaks, kLine); }

void TextLayout::new_paragraph() { flow().breaks = kParagraph; }

void TextLayout::line_break() { flow().breaks = std::min(flow().breaks + 1, kParagraph); }

void TextLayout::begin_heading(size_t level) {
  new_paragraph();
  flow().mark = std::string(level, '#') + ' ';
}

void TextLayout::end_heading() {
  new_paragraph();
  flow().mark.clear();
}

void TextLayout::begin_list(bool numbered) {
  flow().lists.empty() ? new_paragraph() : new_line();
  flow().lists.push_back({.numbered = numbered});
}

void TextLayout::end_list() {
  flow().mark.clear();
  flow().lists.pop_back();
  flow().lists.empty() ? new_paragraph() : new_line();
}

void TextLayout::begin_item() {
  new_line();
  if (flow().lists.empty()) return;
  List& list = flow().lists.back();
  ++list.items;
  flow().mark = list.numbered ? fmt::format("{}. ", list.items) : "- ";
}

void TextLayout::begin_verbatim() {
  new_paragraph();
  ++flow().verbatim;
}

void TextLayout::end_verbatim() {
  Flow& of = flow();
  --of.verbatim;
  of.text.resize(of.text.find_last_not_of('\n') + 1);
  new_paragraph();
}

void TextLayout::add_block(std::string_view text) {
  flow().begin_text();
  flow().text += text;
}

void TextLayout::end_row() {
  const std::vector<std::string> cells = std::move(rows_.back());
  rows_.pop_back();
  const auto is_line = [](const std::string& cell) { return cell.find('\n') == std::string::npos; };
  if (std::ranges::all_of(cells, &std::string::empty)) return;
  if (std::ranges::all_of(cells, is_line)) {
    new_line();
    add_block(fmt::format("{}", fmt::join(cells, " | ")));
    new_line();
    return;
  }
  for (const std::string& cell : cells) {
    if (cell.empty()) continue;
    new_paragraph();
    add_block(cell);
  }
  new_paragraph();
}

void TextLayout::end_cell() {
  std::string text = std::move(flow().text);
  flows_.pop_back();
  if (!rows_.empty()) {
    rows_.back().push_back(std::move(text));
  } else if (!text.empty()) {
    new_paragraph();
    add_block(text);
    new_paragraph();
  }
}

std::string TextLayout::take() {
  std::string text = std::move(flows_.front().text);
  if (!text.empty()) text += '\n';
  return text;
}

}  // namespace restkv::document
