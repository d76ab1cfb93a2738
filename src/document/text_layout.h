#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::document {

/// Lays out paragraphs, lists and tables as plain text.
class TextLayout {
 public:
  /// White space counts as one space, at the ends of lines as none.
  void add(std::string_view text);
  /// What follows begins on another line, or behind an empty one.
  void new_line();
  void new_paragraph();
  /// The same as `new_line`, but two of them leave an empty line.
  void line_break();

  /// A paragraph behind `level` #.
  void begin_heading(size_t level);
  void end_heading();
  void begin_list(bool numbered);
  void end_list();
  void begin_item();
  /// Text that stays as it is.
  void begin_verbatim();
  void end_verbatim();
  /// A row whose cells have one line each becomes one line. Otherwise its cells become paragraphs,
  /// since tables are also used to arrange pages.
  void begin_row() { rows_.emplace_back(); }
  void end_row();
  void begin_cell() { flows_.emplace_back(); }
  void end_cell();

  /// All of it, ended by a line feed; empty: there was nothing.
  [[nodiscard]] std::string take();

 private:
  struct List {
    bool numbered = false;
    size_t items = 0;
  };
  /// One text from above to below: the page, or a cell.
  struct Flow {
    std::string text;
    size_t breaks = 0;   ///< Line feeds before what follows.
    bool space = false;  ///< Before what follows on the same line.
    size_t verbatim = 0;
    std::string mark;  ///< "## ", "- " ...: before what follows.
    std::vector<List> lists;

    void begin_text();
  };

  Flow& flow() { return flows_.back(); }
  void add_block(std::string_view text);

  std::vector<Flow> flows_{1};                  ///< The page, and each open cell.
  std::vector<std::vector<std::string>> rows_;  ///< Complete cells of each open row.
};

}  // namespace restkv::document
