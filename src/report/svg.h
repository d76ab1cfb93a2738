#pragma once

#include <string>
#include <string_view>

namespace restkv::eval {

/// `text` made safe for the content and the quoted attributes of XML and HTML: markup characters
/// become entities; what is not `printable` becomes U+FFFD.
std::string escape(std::string_view text);

/// Collects the elements of one figure. Lengths are in pixels, y points down. The CSS classes of
/// `style` define colours, so that a figure follows the reader's light or dark mode.
class Svg {
 public:
  /// `title` is the description for screen readers.
  Svg(double width, double height, std::string_view title, std::string_view style);

  /// `tooltip`, if not empty, appears when the mouse is over the rectangle.
  void rect(double x, double y, double width, double height, std::string_view css_class,
            std::string_view tooltip = {});
  void line(double x1, double y1, double x2, double y2, std::string_view css_class);
  /// `path` is in SVG's path language ("M0 0h10").
  void path(std::string_view path, std::string_view css_class);
  /// `degrees` turns the text clockwise about (x, y).
  void text(double x, double y, std::string_view content, std::string_view css_class,
            double degrees = 0);

  [[nodiscard]] std::string str() const;

 private:
  std::string body_;
};

}  // namespace restkv::eval
