#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::eval {

/// What a square of a heat map shows besides its colour, for those who do not see it.
enum class HeatSign { kTick, kCross, kText };

struct HeatSquare {
  std::optional<double> share = std::nullopt;  ///< Its colour, 0 to 1; grey and bare without.
  HeatSign sign = HeatSign::kText;
  std::string text = {};  ///< For `kText`; left out where the square is too narrow.
  std::string tooltip = {};
};

struct HeatColumn {
  std::string name;                 ///< Below the squares.
  std::string sum = {};             ///< Between squares and name; may be empty.
  std::vector<HeatSquare> squares;  ///< Like `HeatChart::rows`.
};

struct HeatPanel {
  std::string name;
  std::vector<HeatColumn> columns;
};

struct HeatKey {
  HeatSquare square;
  std::string text;  ///< Empty: the next square follows at once, as on a scale.
};

/// Panels of coloured squares that share their rows. Panels flow like words into lines of about the
/// same length; squares are as wide as they can be with all panels side by side, or as the panel's
/// name.
struct HeatChart {
  std::string title, subtitle;
  std::vector<HeatKey> keys;  ///< The legend.
  std::string note;           ///< Behind the legend.
  std::vector<std::string> rows;
  double narrowest = 36;  ///< A square, in pixels: lines are begun before squares get narrower.
  bool turned = false;    ///< Names of columns are words, turned by 45 degrees; else numbers.
  std::vector<HeatPanel> panels;
};

/// An SVG picture.
std::string heat_chart(const HeatChart& chart);

/// The same as tables of a page, which fit any screen: a table for each panel, in which the
/// columns' names, if they are words, head the rows. Tooltips open by a click, a tap or a key.
/// `name` tells several of a page apart: it begins the ids.
std::string heat_html(const HeatChart& chart, std::string_view name);
/// What these tables look like, in CSS.
std::string heat_html_style();

/// CSS of the shades of a share, .h0 to .h10 (tenths), for light and dark mode, and of text on them
/// (.on-dark, .on-light). `property` and `text_property` are fill and fill of pictures, background
/// and color of pages.
std::string shade_style(std::string_view property, std::string_view text_property);
/// "h7": the class of a share of 0 to 1, and that of text on it.
std::string shade_class(double share);
std::string_view text_class(double share);

}  // namespace restkv::eval
