#pragma once

#include <string>
#include <string_view>

namespace restkv::document {

/// What a page of HTML says, as text: paragraphs with empty lines between them, headings behind #
/// as in Markdown, lists with "- " or numbers, rows of tables with " | " between their cells,
/// preformatted text as it is. Scripts, styles, navigation, form controls, pictures and what is
/// hidden are left out. Tags that do not fit are read as libxml2 mends them.
///
/// `html` is UTF-8. `name` names the page in messages. Throws `Error` (kInput) for elements that
/// are nested more than 512 deep, and for 2 GiB and more.
std::string html_text(std::string_view html, std::string_view name);

}  // namespace restkv::document
