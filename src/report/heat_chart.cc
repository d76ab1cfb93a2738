#include "report/heat_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "report/chart_style.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

constexpr double kWidth = 1200;
constexpr double kMargin = 24;
constexpr double kTop = 112;  // title and legend
constexpr double kPanelHead = 26;
constexpr double kGap = 32;
constexpr double kRow = 26;
constexpr double kWidest = 64;  // a square
constexpr double kKeyTop = 75;
constexpr double kKeyWidth = 36;
constexpr double kKeyHeight = 24;
constexpr size_t kShades = 10;

/// Pixels that letters of 13 pixels take at most, about.
double text_width(std::string_view text) { return 7.5 * static_cast<double>(text.size()); }

/// From pale orange to strong blue: readable in every form of colour blindness and in grey.
std::string style() {
  std::string css(kChartStyle);
  css += R"(.cell{stroke:#ffffff;stroke-width:1}.absent{fill:#f1f3f5}
.on-dark{fill:#ffffff}.on-light{fill:#1f2328}
.tick{fill:none;stroke:#ffffff;stroke-width:3;stroke-linecap:round;stroke-linejoin:round}
.cross{fill:none;stroke:#a04d00;stroke-width:2.5;stroke-linecap:round}
)";
  for (size_t i = 0; i <= kShades; ++i) {
    const double share = static_cast<double>(i) / kShades;
    const auto mix = [&](double low, double high) {
      return static_cast<int>(std::lround(low + (high - low) * share));
    };
    css += fmt::format(".h{}{{fill:#{:02x}{:02x}{:02x}}}", i, mix(0xf7, 0x08), mix(0xe3, 0x51),
                       mix(0xd0, 0x9c));
  }
  return css +
         "\n@media(prefers-color-scheme:dark){\n.cell{stroke:#0d1117}.absent{fill:#161b22}\n}\n";
}

void draw_square(Svg& svg, double x, double y, double width, double height,
                 const HeatSquare& square) {
  if (!square.share) {
    svg.rect(x, y, width, height, "cell absent", square.tooltip);
    return;
  }
  svg.rect(x, y, width, height, fmt::format("cell h{}", std::lround(*square.share * kShades)),
           square.tooltip);
  const double cx = x + width / 2;
  const double cy = y + height / 2;
  switch (square.sign) {
    case HeatSign::kTick:
      svg.path(fmt::format("M{:g} {:g}l4.5 5l8.5 -10", cx - 6.5, cy + 0.5), "tick");
      break;
    case HeatSign::kCross:
      svg.path(fmt::format("M{:g} {:g}l10 10m0 -10l-10 10", cx - 5, cy - 5), "cross");
      break;
    case HeatSign::kText:
      if (width < text_width(square.text) + 3) break;
      svg.text(cx, cy + 4, square.text,
               *square.share > 0.5 ? "middle small on-dark" : "middle small on-light");
  }
}

void draw_legend(Svg& svg, const HeatChart& chart) {
  double x = kMargin;
  for (const HeatKey& key : chart.keys) {
    draw_square(svg, x, kKeyTop, kKeyWidth, kKeyHeight, key.square);
    x += kKeyWidth;
    if (key.text.empty()) continue;
    svg.text(x + 8, kKeyTop + 17, key.text, "");
    x += 36 + 7 * static_cast<double>(key.text.size());
  }
  svg.text(chart.keys.empty() || !chart.keys.back().text.empty() ? x : x + 8, kKeyTop + 17,
           chart.note, "muted");
}

/// Where panels stand: pixels from the left, and the number of the line.
struct Place {
  double x = 0;
  double line = 0;
};

struct Layout {
  double left = 0;  // of a line's first panel
  double cell = kWidest;
  double lines = 1;
  std::vector<Place> places;  // like the panels
};

Layout layout_of(const HeatChart& chart) {
  Layout layout;
  for (const std::string& row : chart.rows) layout.left = std::max(layout.left, text_width(row));
  layout.left += kMargin + 8;
  const double room = kWidth - kMargin - layout.left;
  const auto width_of = [&](const HeatPanel& panel) {
    return std::max({layout.cell * static_cast<double>(panel.columns.size()), 76.0,
                     std::min(text_width(panel.name), room)});
  };
  const auto total_width = [&] {
    double width = -kGap;
    for (const HeatPanel& panel : chart.panels) width += width_of(panel) + kGap;
    return width;
  };
  while (total_width() > room && layout.cell > chart.narrowest) {
    layout.cell = std::max(layout.cell - 1, chart.narrowest);
  }
  Place place{layout.left, 0};
  for (const HeatPanel& panel : chart.panels) {
    const double width = width_of(panel);
    if (place.x > layout.left && place.x + width > kWidth - kMargin) {
      place = {layout.left, place.line + 1};
    }
    layout.places.push_back(place);
    place.x += width + kGap;
  }
  layout.lines = place.line + 1;
  return layout;
}

/// Sums and names below a panel whose squares end at `y`.
void draw_foot(Svg& svg, const HeatChart& chart, const HeatPanel& panel, double x, double y,
               double cell) {
  double labelled = -kWidth;
  for (const HeatColumn& column : panel.columns) {
    const double middle = x + cell / 2;
    if (!column.sum.empty()) svg.text(middle, y + 17, column.sum, "middle muted");
    if (chart.turned) {
      svg.text(middle + 4, y + 34, column.name, "end", -45);
    } else if (middle - labelled >= std::max(text_width(column.name), 40.0)) {
      labelled = middle;
      svg.text(middle, y + 17, column.name, "middle muted small");
    }
    x += cell;
  }
}

}  // namespace

std::string heat_chart(const HeatChart& chart) {
  const Layout layout = layout_of(chart);
  double longest_name = 0;
  for (const HeatPanel& panel : chart.panels) {
    for (const HeatColumn& column : panel.columns) {
      longest_name = std::max(longest_name, static_cast<double>(column.name.size()));
    }
  }
  const double foot = chart.turned ? 50 + 5.2 * longest_name : 40;
  const double squares = kRow * static_cast<double>(chart.rows.size());
  const double line_height = kPanelHead + squares + foot;
  const double height = kTop + line_height * layout.lines + 8;

  Svg svg(kWidth, height, chart.title, style());
  svg.rect(0, 0, kWidth, height, "paper");
  svg.text(kMargin, 34, chart.title, "title");
  svg.text(kMargin, 58, chart.subtitle, "muted");
  draw_legend(svg, chart);
  for (size_t p = 0; p < chart.panels.size(); ++p) {
    const HeatPanel& panel = chart.panels[p];
    const double x = layout.places[p].x;
    const double top = kTop + line_height * layout.places[p].line + kPanelHead;
    svg.text(x + 1, top - 8, panel.name, "strong");
    for (size_t r = 0; x == layout.left && r < chart.rows.size(); ++r) {
      svg.text(x - 8, top + kRow * (static_cast<double>(r) + 0.5) + 4, chart.rows[r], "end");
    }
    for (size_t c = 0; c < panel.columns.size(); ++c) {
      for (size_t r = 0; r < chart.rows.size(); ++r) {
        draw_square(svg, x + layout.cell * static_cast<double>(c),
                    top + kRow * static_cast<double>(r), layout.cell, kRow,
                    panel.columns[c].squares[r]);
      }
    }
    draw_foot(svg, chart, panel, x, top + squares, layout.cell);
  }
  return svg.str();
}

}  // namespace restkv::eval
