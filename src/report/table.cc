#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/printable.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

bool begins_group(const Table& table, size_t row) {
  if (!table.grouped_by || row == 0) return false;
  const size_t column = *table.grouped_by;
  return table.rows[row][column].text != table.rows[row - 1][column].text;
}

std::string cell_markdown(const TableCell& cell) {
  const std::string text = markdown_text(cell.text);
  return cell.strong ? "**" + text + "**" : text;
}

/// Code points, for alignment.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string markdown_text(std::string_view text) {
  constexpr std::string_view kMarkup = "\\`*_{}[]<>#|!&~";
  std::string safe;
  for (const char c : printable(text, "\xEF\xBF\xBD")) {
    if (kMarkup.find(c) != std::string_view::npos) safe += '\\';
    safe += c == '\n' || c == '\r' ? ' ' : c;
  }
  return safe;
}

std::string table_markdown(const Table& table) {
  std::string text = "|";
  std::string rule = "|";
  for (size_t i = 0; i < table.header.size(); ++i) {
    text += fmt::format(" {} |", cell_markdown({table.header[i]}));
    rule += i < table.labels ? "---|" : "---:|";
  }
  text += '\n' + rule + '\n';
  for (const auto& row : table.rows) {
    text += '|';
    for (const TableCell& cell : row) text += fmt::format(" {} |", cell_markdown(cell));
    text += '\n';
  }
  return text;
}

std::string table_text(const Table& table, size_t width) {
  constexpr size_t kGap = 2;
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.header.size(); ++i) {
    widths.push_back(width_of(table.header[i]));
    for (const auto& row : table.rows) {
      widths[i] = std::max(widths[i], width_of(row[i].text) + (row[i].strong ? 1 : 0));
    }
  }
  size_t names = 0;
  for (size_t i = 0; i < std::min(table.labels, widths.size()); ++i) names += widths[i] + kGap;
  std::string text;
  // The names and the columns [first, last).
  const auto add_block = [&](size_t first, size_t last) {
    const auto add_line = [&](const std::function<std::string(size_t)>& cell) {
      const size_t line = text.size();
      for (size_t i = 0; i < last; ++i) {
        if (i >= table.labels && i < first) continue;
        const std::string content = cell(i);
        const std::string padding(widths[i] - width_of(content), ' ');
        text += text.size() == line ? "" : std::string(kGap, ' ');
        text += i < table.labels ? content + padding : padding + content;
      }
      text.erase(text.find_last_not_of(' ') + 1);
      text += '\n';
    };
    if (!text.empty()) text += '\n';
    add_line([&](size_t i) { return table.header[i]; });
    for (size_t r = 0; r < table.rows.size(); ++r) {
      if (begins_group(table, r)) text += '\n';
      add_line([&](size_t i) {
        const TableCell& cell = table.rows[r][i];
        return cell.strong ? "*" + cell.text : cell.text;
      });
    }
  };
  size_t first = table.labels;
  do {
    size_t last = first;
    for (size_t used = names; last < widths.size(); ++last) {
      used += widths[last] + kGap;
      if (last > first && used > width + kGap) break;
    }
    add_block(first, last);
    first = last;
  } while (first < widths.size());
  return text;
}

std::string table_html(const Table& table) {
  constexpr size_t kLong = 60;
  std::string text = fmt::format(
      "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table>\n"
      "<caption>{0}</caption>\n<thead><tr>",
      escape(table.title));
  // Names are aligned to the left; long texts wrap instead of widening the table.
  const auto attributes = [&](size_t i, size_t length) {
    std::string classes = i < table.labels ? "name" : "";
    if (length > kLong) classes += classes.empty() ? "long" : " long";
    return classes.empty() ? "" : fmt::format(" class=\"{}\"", classes);
  };
  for (size_t i = 0; i < table.header.size(); ++i) {
    text += fmt::format("<th scope=\"col\"{}>{}</th>", attributes(i, 0), escape(table.header[i]));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    text += begins_group(table, r) ? "<tr class=\"group\">" : "<tr>";
    for (size_t i = 0; i < table.rows[r].size(); ++i) {
      const TableCell& cell = table.rows[r][i];
      const std::string content = escape(cell.text);
      const bool heads = i < std::min<size_t>(table.labels, 2);
      text += fmt::format(
          "<{0}{1}>{2}</{3}>", heads ? "th scope=\"row\"" : "td", attributes(i, cell.text.size()),
          cell.strong ? "<strong>" + content + "</strong>" : content, heads ? "th" : "td");
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

}  // namespace restkv::eval
