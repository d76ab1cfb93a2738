#pragma once

#include <optional>
#include <string>
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

/// Panels of coloured squares that share their rows. Panels flow like words into lines; squares are
/// as wide as they can be with all panels side by side.
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

}  // namespace restkv::eval
