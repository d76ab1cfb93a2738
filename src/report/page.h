#pragma once

#include <string>
#include <string_view>

/// Pages in HTML that load nothing.
namespace restkv::eval {

/// A whole page. `title` is plain text, `body` HTML, which becomes the page's main part.
std::string html_page(std::string_view title, std::string_view body);

/// A picture with plain text below it.
std::string figure_html(std::string_view svg, std::string_view caption);

}  // namespace restkv::eval
