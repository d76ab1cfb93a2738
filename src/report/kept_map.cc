#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "report/chart_style.h"
#include "report/heat_chart.h"
#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/percent.h"
#include "report/svg.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr double kWidth = 1200;
constexpr double kMargin = 24;

// Strokes of whole pixels, darker where more is kept (in dark mode: brighter).
constexpr std::string_view kStyle = R"(
.map{fill:#f4f6f8}.needle{fill:#ffb454}.needle-text{fill:#a04d00;font-weight:600}
.share1,.share2,.share3,.share4{fill:none;shape-rendering:crispEdges}
.key{stroke-width:15}.share1{stroke:#8fbde6}.share2{stroke:#4a90d0}.share3{stroke:#1c64ad}.share4{stroke:#08305f}
@media(prefers-color-scheme:dark){
.map{fill:#161b22}.needle{fill:#9a5b10}.needle-text{fill:#f0a55a}
.share1{stroke:#2b5f96}.share2{stroke:#3f86cf}.share3{stroke:#7db8f5}.share4{stroke:#e2f0ff}
}
)";

constexpr double kMapLeft = 92;
constexpr size_t kMapPixels = 1060;
constexpr size_t kMapHeight = 240;  // aimed at; rows are whole pixels
constexpr size_t kShades = 4;
constexpr double kLayerGap = 1;

void check(const KeptMap& map) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("kept tokens of {} at budget {}: {} outside the prompt of {} tokens; "
                            "give positions within the prompt",
                            map.method, map.budget, what, map.prompt_tokens));
  };
  if (map.needle_begin > map.needle_end || map.needle_end > map.prompt_tokens) {
    fail(fmt::format("the needle [{}, {}) lies", map.needle_begin, map.needle_end));
  }
  for (const auto& layer : map.keep) {
    for (const auto& head : layer) {
      for (const int32_t position : head) {
        if (position < 0 || static_cast<size_t>(position) >= map.prompt_tokens) {
          fail(fmt::format("position {} lies", position));
        }
      }
    }
  }
}

/// Token positions on the x axis: neighbouring tokens share a bin if there are more than pixels.
struct Bins {
  explicit Bins(size_t prompt_tokens)
      : tokens(prompt_tokens),
        count(std::clamp<size_t>(prompt_tokens, 1, kMapPixels)),
        pixels(kMapPixels / count) {}

  [[nodiscard]] size_t of(size_t token) const { return token * count / tokens; }
  /// First token of a bin: the smallest t with of(t) == bin.
  [[nodiscard]] size_t begin(size_t bin) const { return (bin * tokens + count - 1) / count; }
  /// Left edge of a token (or of the end of the prompt), in pixels from the left of the plot.
  [[nodiscard]] double x(size_t token) const {
    return static_cast<double>(token * count * pixels) /
           static_cast<double>(std::max<size_t>(tokens, 1));
  }
  [[nodiscard]] double width() const { return static_cast<double>(count * pixels); }

  size_t tokens;
  size_t count;
  size_t pixels;
};

/// Quarter (1..4, rounded up) of each bin's tokens that are kept; 0 where none is.
std::vector<size_t> shades(const std::vector<int32_t>& kept, const Bins& bins) {
  std::vector<size_t> shade(bins.count);
  for (const int32_t position : kept) ++shade[bins.of(static_cast<size_t>(position))];
  for (size_t b = 0; b < bins.count; ++b) {
    const size_t size = bins.begin(b + 1) - bins.begin(b);
    if (shade[b] > 0) shade[b] = std::min(kShades, (shade[b] * kShades + size - 1) / size);
  }
  return shade;
}

/// About eight round numbers.
size_t tick_step(size_t tokens) {
  for (size_t power = 1;; power *= 10) {
    for (const size_t digit : {1, 2, 5}) {
      if (tokens / (digit * power) <= 8) return digit * power;
    }
  }
}

size_t head_count(const KeptMap& map) {
  size_t heads = 0;
  for (const auto& layer : map.keep) heads += layer.size();
  return heads;
}

double row_height(const KeptMap& map) {
  return static_cast<double>(
      std::clamp<size_t>(kMapHeight / std::max<size_t>(head_count(map), 1), 1, 12));
}

double rows_height(const KeptMap& map) {
  return static_cast<double>(head_count(map)) * row_height(map) +
         static_cast<double>(map.keep.size()) * kLayerGap;
}

constexpr double kTokenHeight = 22;  // of the magnified needle
constexpr double kTokenLine = 40;    // with the shares below the number's tokens
constexpr double kTokenLeft = kMargin;

/// Where the tokens of the magnified needle stand: x, line and width of each.
struct TokenPlace {
  double x = 0;
  double line = 0;
  double width = 0;
};

std::vector<TokenPlace> token_places(const KeptMap& map) {
  std::vector<TokenPlace> places;
  if (map.needle_pieces.size() != map.needle_end - map.needle_begin) return places;
  double x = kTokenLeft;
  double line = 0;
  for (const std::string& piece : map.needle_pieces) {
    const double width = std::max(30.0, 8 + 7.5 * static_cast<double>(piece.size()));
    if (x > kTokenLeft && x + width > kWidth - kMargin) {
      x = kTokenLeft;
      ++line;
    }
    places.push_back({x, line, width});
    x += width + 2;
  }
  return places;
}

double needle_height(const KeptMap& map) {
  const auto places = token_places(map);
  return places.empty() ? 0 : kTokenLine * (places.back().line + 1) + 26;
}

/// The needle, token by token, and what it says.
void draw_needle(Svg& svg, const KeptMap& map, double top) {
  const auto places = token_places(map);
  if (places.empty()) return;
  const MagnifiedNeedle needle = magnified(map);
  for (size_t i = 0; i < places.size(); ++i) {
    const auto& [x, line, width] = places[i];
    const double y = top + kTokenLine * line;
    const std::string share = fmt::format("{:.0f}%", 100 * needle.share(i));
    svg.rect(x, y, width, kTokenHeight, shade_class(needle.share(i)),
             fmt::format("{}: kept by {} of {} heads", map.needle_pieces[i], needle.keeping[i],
                         needle.heads));
    svg.text(x + width / 2, y + 15, map.needle_pieces[i],
             fmt::format("middle {}", text_class(needle.share(i))));
    if (i < needle.answer_begin || i >= needle.answer_end) continue;
    svg.text(x + width / 2, y + kTokenHeight + 12, share, "middle muted small");
  }
  svg.text(kMargin, top + kTokenLine * (places.back().line + 1) + 10, needle.text(), "");
}

constexpr double kMapHeader = 64;  // above the rows of a map: heading and the word "needle"
constexpr double kMapFooter = 52;  // below: token axis and space

double map_height(const KeptMap& map) {
  return kMapHeader + needle_height(map) + rows_height(map) + kMapFooter;
}

std::string heading(const KeptMap& map) {
  size_t kept = 0;
  size_t kept_of_needle = 0;
  for (const auto& layer : map.keep) {
    for (const auto& head : layer) {
      kept += head.size();
      kept_of_needle += static_cast<size_t>(std::ranges::count_if(head, [&](int32_t position) {
        const auto token = static_cast<size_t>(position);
        return token >= map.needle_begin && token < map.needle_end;
      }));
    }
  }
  const auto heads = static_cast<double>(std::max<size_t>(head_count(map), 1));
  const auto share = [&](size_t part, size_t whole) {
    return percent(static_cast<double>(part) / heads /
                   static_cast<double>(std::max<size_t>(whole, 1)));
  };
  const size_t needle = map.needle_end - map.needle_begin;
  return fmt::format("keeps {:.4g} of {} tokens per head ({}), and {} of the {} needle tokens",
                     static_cast<double>(kept) / heads, map.prompt_tokens,
                     share(kept, map.prompt_tokens), share(kept_of_needle, needle), needle);
}

void draw_map(Svg& svg, const KeptMap& map, double top) {
  const Bins bins(map.prompt_tokens);
  const double height = rows_height(map);
  const double row = row_height(map);
  svg.text(
      kMargin, top + 16,
      fmt::format("{} · {} per head", map.method, budget_share_text(map.budget, map.prompt_tokens)),
      "strong");
  svg.text(kMargin, top + 35, heading(map), "muted");
  draw_needle(svg, map, top + 48);

  top += kMapHeader + needle_height(map);
  svg.rect(kMapLeft, top, bins.width(), height, "map");
  const double needle = kMapLeft + bins.x(map.needle_begin);
  const double needle_width = std::max(2.0, kMapLeft + bins.x(map.needle_end) - needle);
  svg.rect(needle, top - 6, needle_width, height + 12, "needle");
  svg.text(std::clamp(needle + needle_width / 2, kMapLeft + 22, kMapLeft + bins.width() - 22),
           top - 10, "needle", "needle-text middle");

  // One path per shade, each run of bins one stroke as high as a row: a tenth of the bytes that
  // rectangles would take.
  std::array<std::string, kShades> strokes;
  double y = top;
  double labelled = -1000;
  for (size_t layer = 0; layer < map.keep.size(); ++layer) {
    if (y - labelled >= 36) {
      labelled = y;
      svg.text(kMapLeft - 8, y + 10, fmt::format("layer {}", layer), "muted end");
    }
    for (const auto& head : map.keep[layer]) {
      const auto shade = shades(head, bins);
      for (size_t begin = 0, end = 0; begin < bins.count; begin = end) {
        while (end < bins.count && shade[end] == shade[begin]) ++end;
        if (shade[begin] == 0) continue;
        strokes[shade[begin] - 1] +=
            fmt::format("M{:g} {:g}h{}", kMapLeft + static_cast<double>(begin * bins.pixels),
                        y + row / 2, (end - begin) * bins.pixels);
      }
      y += row;
    }
    y += kLayerGap;
  }
  for (size_t s = 0; s < kShades; ++s) {
    if (!strokes[s].empty()) {
      svg.path(strokes[s], fmt::format("share{} row{:g}", s + 1, row));
    }
  }

  const double axis = top + height + 10;
  svg.line(kMapLeft, axis, kMapLeft + bins.width(), axis, "axis");
  const size_t step = tick_step(map.prompt_tokens);
  for (size_t token = 0; token <= map.prompt_tokens; token += step) {
    const double x = kMapLeft + bins.x(token);
    svg.line(x, axis, x, axis + 5, "axis");
    svg.text(x, axis + 19, fmt::format("{}{}", token, token == 0 ? " tokens" : ""),
             token == 0 ? "muted" : "muted middle");
  }
}

}  // namespace

std::string kept_map_svg(const NeedleReport& report) {
  constexpr double kFirstMap = 116;
  double height = kFirstMap;
  std::string style = fmt::format("{}{}{}", kChartStyle, kStyle, shade_style("fill", "fill"));
  for (const auto& map : report.maps) {
    check(map);
    height += map_height(map);
    style += fmt::format(".row{0:g}{{stroke-width:{0:g}}}", row_height(map));
  }
  Svg svg(kWidth, height, "Which prompt tokens each layer and head kept", style);
  svg.rect(0, 0, kWidth, height, "paper");
  svg.text(kMargin, 36, "Which tokens were kept? One prompt, every layer and head", "title");
  svg.text(kMargin, 60,
           fmt::format("{} · each row is one KV head, layer 0 on top · left: start of the prompt, "
                       "right: its end",
                       report.model),
           "muted");
  double x = kMargin;
  const auto key = [&](std::string_view text, const auto& draw) {
    draw();
    svg.text(x + 42, 87, text, "");
    x += 62 + 7.2 * static_cast<double>(text.size());
  };
  svg.text(x, 87, "tokens of a column kept:", "muted");
  x += 172;
  for (size_t s = 1; s <= kShades; ++s) {
    key(fmt::format("{}{}%", s == 1 ? "up to " : "", 100 * s / kShades),
        [&] { svg.path(fmt::format("M{:g} 82.5h36", x), fmt::format("share{} key", s)); });
  }
  key("where the needle stands", [&] { svg.rect(x, 75, 36, 15, "needle"); });
  double top = kFirstMap;
  for (const auto& map : report.maps) {
    draw_map(svg, map, top);
    top += map_height(map);
  }
  return svg.str();
}

}  // namespace restkv::eval
