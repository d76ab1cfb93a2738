#include "report/svg.h"

#include <fmt/format.h>

#include "base/printable.h"

namespace restkv::eval {

std::string escape(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  for (const char c : printable(text, "\xEF\xBF\xBD")) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

Svg::Svg(double width, double height, std::string_view title, std::string_view style)
    : body_(fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{0:g}" )"
                        R"(height="{1:g}" viewBox="0 0 {0:g} {1:g}" aria-label="{2}">)"
                        "\n<title>{2}</title>\n<style>{3}</style>\n",
                        width, height, escape(title), style)) {}

void Svg::rect(double x, double y, double width, double height, std::string_view css_class,
               std::string_view tooltip) {
  body_ += fmt::format(R"(<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" class="{}">)", x, y,
                       width, height, escape(css_class));
  if (!tooltip.empty()) body_ += fmt::format("<title>{}</title>", escape(tooltip));
  body_ += "</rect>\n";
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  path(fmt::format("M{:g} {:g}L{:g} {:g}", x1, y1, x2, y2), css_class);
}

void Svg::path(std::string_view path, std::string_view css_class) {
  body_ += fmt::format("<path d=\"{}\" class=\"{}\"/>\n", escape(path), escape(css_class));
}

void Svg::text(double x, double y, std::string_view content, std::string_view css_class,
               double degrees) {
  const std::string turn =
      degrees == 0 ? "" : fmt::format(" transform=\"rotate({:g} {:g} {:g})\"", degrees, x, y);
  body_ += fmt::format("<text x=\"{:g}\" y=\"{:g}\" class=\"{}\"{}>{}</text>\n", x, y,
                       escape(css_class), turn, escape(content));
}

std::string Svg::str() const { return body_ + "</svg>\n"; }

}  // namespace restkv::eval
