#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>

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

std::string table_text(const Table& table) {
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.header.size(); ++i) {
    widths.push_back(width_of(table.header[i]));
    for (const auto& row : table.rows) {
      widths[i] = std::max(widths[i], width_of(row[i].text) + (row[i].strong ? 1 : 0));
    }
  }
  std::string text;
  const auto add = [&](size_t i, const std::string& cell) {
    const std::string padding(widths[i] - width_of(cell), ' ');
    text += (i == 0 ? "" : "  ") + (i < table.labels ? cell + padding : padding + cell);
  };
  for (size_t i = 0; i < table.header.size(); ++i) add(i, table.header[i]);
  text += '\n';
  for (size_t r = 0; r < table.rows.size(); ++r) {
    if (begins_group(table, r)) text += '\n';
    for (size_t i = 0; i < table.header.size(); ++i) {
      const TableCell& cell = table.rows[r][i];
      add(i, cell.strong ? "*" + cell.text : cell.text);
    }
    text += '\n';
  }
  return text;
}

std::string table_html(const Table& table) {
  constexpr size_t kLong = 60;
  std::string text = "<div class=\"wide\"><table>\n<tr>";
  // Names are aligned to the left; long texts wrap instead of widening the table.
  const auto attributes = [&](size_t i, size_t length) {
    std::string classes = i < table.labels ? "name" : "";
    if (length > kLong) classes += classes.empty() ? "long" : " long";
    return classes.empty() ? "" : fmt::format(" class=\"{}\"", classes);
  };
  for (size_t i = 0; i < table.header.size(); ++i) {
    text += fmt::format("<th{}>{}</th>", attributes(i, 0), escape(table.header[i]));
  }
  text += "</tr>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    text += begins_group(table, r) ? "<tr class=\"group\">" : "<tr>";
    for (size_t i = 0; i < table.rows[r].size(); ++i) {
      const TableCell& cell = table.rows[r][i];
      const std::string content = escape(cell.text);
      text += fmt::format("<td{}>{}</td>", attributes(i, cell.text.size()),
                          cell.strong ? "<strong>" + content + "</strong>" : content);
    }
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

}  // namespace restkv::eval
