#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Tables with output as plain text, Markdown and HTML.
namespace restkv::eval {

struct TableCell {
  std::string text;
  bool strong = false;  ///< The best of its group.
};

/// The first `labels` columns are names, the rest figures.
struct Table {
  std::string title;
  std::string note;  ///< Below the title; may be empty.
  size_t labels = 1;
  std::vector<std::string> header;
  std::vector<std::vector<TableCell>> rows;
  /// A change in this column starts a group of rows.
  std::optional<size_t> grouped_by = std::nullopt;
};

/// Aligned columns for a terminal: names to the left, figures to the right, and `*` before what is
/// strong. Columns beyond `width` characters go on below, behind the names again.
std::string table_text(const Table& table, size_t width = 100);
std::string table_markdown(const Table& table);
/// The title is the caption for screen readers; names are headings of their rows.
std::string table_html(const Table& table);

/// `text` on one line with all possible Markdown markup escaped. Names come from files, and one
/// like
/// "[a](javascript:b)" must not become a link.
std::string markdown_text(std::string_view text);

}  // namespace restkv::eval
