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

/// The shades .h0 to .h10.
std::string shades(bool dark, std::string_view property) {
  std::string css;
  for (size_t i = 0; i <= kShades; ++i) {
    const double share = static_cast<double>(i) / kShades;
    const auto mix = [&](double low, double high) {
      return static_cast<int>(std::lround(low + (high - low) * share));
    };
    css += dark ? fmt::format(".h{}{{{}:#{:02x}{:02x}{:02x}}}", i, property, mix(0x3d, 0x8c),
                              mix(0x2b, 0xc4), mix(0x1a, 0xff))
                : fmt::format(".h{}{{{}:#{:02x}{:02x}{:02x}}}", i, property, mix(0xf7, 0x08),
                              mix(0xe3, 0x51), mix(0xd0, 0x9c));
  }
  return css;
}

std::string style() {
  return fmt::format(
      "{}.cell{{stroke:#ffffff;stroke-width:1}}.absent{{fill:#f1f3f5}}\n"
      ".tick{{fill:none;stroke:#ffffff;stroke-width:3;stroke-linecap:round;"
      "stroke-linejoin:round}}\n"
      ".cross{{fill:none;stroke:#a04d00;stroke-width:2.5;stroke-linecap:round}}\n"
      "@media(prefers-color-scheme:dark){{.cell{{stroke:#0d1117}}.absent{{fill:#161b22}}"
      ".tick{{stroke:#0d1117}}.cross{{stroke:#ffb070}}}}\n{}",
      kChartStyle, shade_style("fill", "fill"));
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
  double lines = 1;
  std::vector<Place> places;  // like the panels
  std::vector<double> cells;  // width of a square of each panel
};

Layout layout_of(const HeatChart& chart) {
  Layout layout;
  for (const std::string& row : chart.rows) layout.left = std::max(layout.left, text_width(row));
  layout.left += kMargin + 8;
  const double room = kWidth - kMargin - layout.left;
  double cell = kWidest;
  const auto width_of = [&](const HeatPanel& panel) {
    return std::max({cell * static_cast<double>(panel.columns.size()), 40.0,
                     std::min(text_width(panel.name), room)});
  };
  const auto total_width = [&] {
    double width = -kGap;
    for (const HeatPanel& panel : chart.panels) width += width_of(panel) + kGap;
    return width;
  };
  while (total_width() > room && cell > chart.narrowest) {
    cell = std::max(cell - 1, chart.narrowest);
  }
  // The panels in lines no wider than `line_width`.
  const auto place = [&](double line_width) {
    layout.places.clear();
    Place at{layout.left, 0};
    for (const HeatPanel& panel : chart.panels) {
      const double width = width_of(panel);
      if (at.x > layout.left && at.x + width > layout.left + line_width) {
        at = {layout.left, at.line + 1};
      }
      layout.places.push_back(at);
      at.x += width + kGap;
    }
    layout.lines = at.line + 1;
  };
  place(room);
  // As narrow as so many lines can be: then none holds a single panel that was left over.
  const double lines = layout.lines;
  double line_width = room;
  do {
    line_width -= 8;
    place(line_width);
  } while (layout.lines == lines && line_width > room / lines);
  place(line_width + 8);
  for (const HeatPanel& panel : chart.panels) {
    const auto columns = static_cast<double>(std::max<size_t>(panel.columns.size(), 1));
    layout.cells.push_back(std::max(cell, std::min(width_of(panel) / columns, kWidest)));
  }
  return layout;
}

std::string class_of(const HeatSquare& square) {
  if (!square.share) return "absent";
  return fmt::format("{} {}", shade_class(*square.share), text_class(*square.share));
}

std::string sign_of(const HeatSquare& square) {
  if (!square.share) return "";
  switch (square.sign) {
    case HeatSign::kTick:
      return "✓";
    case HeatSign::kCross:
      return "✗";
    case HeatSign::kText:
      break;
  }
  return square.text;
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
    const double cell = layout.cells[p];
    for (size_t c = 0; c < panel.columns.size(); ++c) {
      for (size_t r = 0; r < chart.rows.size(); ++r) {
        draw_square(svg, x + cell * static_cast<double>(c), top + kRow * static_cast<double>(r),
                    cell, kRow, panel.columns[c].squares[r]);
      }
    }
    draw_foot(svg, chart, panel, x, top + squares, cell);
  }
  return svg.str();
}

std::string shade_class(double share) { return fmt::format("h{}", std::lround(share * kShades)); }

std::string_view text_class(double share) { return share > 0.5 ? "on-dark" : "on-light"; }

// From pale orange to strong blue, in dark mode from dark brown to bright blue: readable in every
// form of colour blindness and in grey.
std::string shade_style(std::string_view property, std::string_view text_property) {
  return fmt::format(
      "{0}\n.on-dark{{{2}:#ffffff}}.on-light{{{2}:#1f2328}}\n"
      "@media(prefers-color-scheme:dark){{{1}\n.on-dark{{{2}:#0d1117}}.on-light{{{2}:#e6edf3}}}}\n",
      shades(false, property), shades(true, property), text_property);
}

std::string heat_html_style() {
  return fmt::format(
      R"(
.panels{{display:flex;flex-wrap:wrap;gap:.6rem 2.6rem;align-items:flex-start}}.panels>*{{max-width:100%}}
.heat{{width:auto;margin:.2rem 0}}.heat caption{{position:static;width:auto;height:auto;clip-path:none;
text-align:left;font-weight:600;padding:.2rem 0}}
.heat th{{border:0;font-weight:400;padding:.1rem .5rem .1rem 0}}
.heat tbody th{{white-space:normal;overflow-wrap:break-word;text-align:left;max-width:12rem}}
.words tbody th{{min-width:6rem}}
.heat thead th{{text-align:center;padding:.1rem .2rem;font-size:.8rem;color:var(--muted)}}
.heat td{{padding:0;border:2px solid var(--page);text-align:center;width:2.3rem;min-width:2.15rem}}
.heat td.sum{{min-width:2.6rem;color:var(--muted)}}
.heat button{{all:unset;display:block;box-sizing:border-box;width:100%;min-height:1.9rem;
line-height:1.9rem;text-align:center;cursor:pointer;font-weight:600}}
.heat button:focus-visible{{outline:3px solid var(--link)}}
.keys{{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;list-style:none}}
.keys span{{display:inline-block;min-width:2rem;text-align:center;font-weight:600;margin-right:.4rem}}
.scale{{gap:0}}.scale span{{margin:0}}
.absent{{background:var(--box)}}
[popover]{{max-width:min(92vw,32rem);white-space:pre-line;overflow-wrap:anywhere;text-align:left;
border:1px solid var(--group);border-radius:8px;padding:.8rem 1rem;background:var(--page);
color:var(--ink)}}
{})",
      shade_style("background", "color"));
}

std::string heat_html(const HeatChart& chart, std::string_view name) {
  std::string text;
  const bool scale = !chart.keys.empty() && chart.keys.back().text.empty();
  text += fmt::format("<ul class=\"keys{}\">", scale ? " scale" : "");
  for (const HeatKey& key : chart.keys) {
    text += fmt::format("<li><span class=\"{}\">{}</span>{}</li>", class_of(key.square),
                        escape(sign_of(key.square)), escape(key.text));
  }
  text +=
      fmt::format("</ul>\n<p class=\"muted\">{}</p>\n<div class=\"panels\">\n", escape(chart.note));
  size_t number = 0;
  const auto cell = [&](const HeatSquare& square) {
    text += fmt::format("<td class=\"{}\">", class_of(square));
    const std::string sign = escape(sign_of(square));
    if (square.tooltip.empty()) {
      text += sign;
    } else {
      const std::string id = fmt::format("{}-{}", name, ++number);
      const std::string tooltip = escape(square.tooltip);
      text += fmt::format(
          "<button type=\"button\" popovertarget=\"{0}\" title=\"{1}\" aria-label=\"{1}\">{2}"
          "</button><div popover=\"auto\" id=\"{0}\">{1}</div>",
          id, tooltip, sign);
    }
    text += "</td>";
  };
  const auto heading = [&](std::string_view scope, std::string_view content) {
    text += fmt::format("<th scope=\"{}\">{}</th>", scope, escape(content));
  };
  for (const HeatPanel& panel : chart.panels) {
    text += fmt::format(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">"
        "<table class=\"heat{1}\"><caption>{0}</caption>\n<thead><tr><td></td>",
        escape(panel.name), chart.turned ? " words" : "");
    if (chart.turned) {
      for (const std::string& row : chart.rows) heading("col", row);
      text += "<td></td></tr></thead>\n<tbody>\n";
      for (const HeatColumn& column : panel.columns) {
        text += "<tr>";
        heading("row", column.name);
        for (const HeatSquare& square : column.squares) cell(square);
        text += fmt::format("<td class=\"sum\">{}</td></tr>\n", escape(column.sum));
      }
    } else {
      for (const HeatColumn& column : panel.columns) heading("col", column.name);
      text += "</tr></thead>\n<tbody>\n";
      for (size_t r = 0; r < chart.rows.size(); ++r) {
        text += "<tr>";
        heading("row", chart.rows[r]);
        for (const HeatColumn& column : panel.columns) cell(column.squares[r]);
        text += "</tr>\n";
      }
    }
    text += "</tbody></table></div>\n";
  }
  return text + "</div>\n";
}

}  // namespace restkv::eval
