#include "eval/svg.h"

#include <fmt/format.h>

#include <cstdint>

namespace restkv::eval {
namespace {

/// Bytes of the well-formed UTF-8 sequence that `text` starts with (Unicode 15, table 3-7), or 0.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  uint32_t code_point = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code_point = code_point << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  const bool valid = lead >= 0xC2 && lead < 0xF5 && code_point >= kSmallest[length] &&
                     code_point < 0x110000 && !surrogate;
  return valid ? length : 0;
}

}  // namespace

std::string escape(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const char c = text[0];
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
      default: {
        const bool control = (c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == '\x7F';
        safe += length == 0 || control ? kReplacement : text.substr(0, length);
      }
    }
    text.remove_prefix(length == 0 ? 1 : length);
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
