#pragma once

#include <string_view>

namespace restkv::server {

/// The page of `GET /`: one HTML document in UTF-8 with its style and script inside. It asks for
/// nothing but the routes of its own server.
std::string_view page_html();

/// The value of the header Content-Security-Policy that belongs to `page_html`. It allows exactly
/// the page's own style and script, by their hashes.
std::string_view page_policy();

}  // namespace restkv::server
